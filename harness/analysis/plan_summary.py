"""What a plan will do and what its seeds can show, before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.analysis.growth import growth_sentences
from harness.analysis.plan_wording import NOTHING_TO_COMPARE, curve_sentences, look_sentences
from harness.analysis.power_curve import PowerCurve, Rule, power_curve
from harness.analysis.proposed_looks import LookPlan, judge_looks, propose_looks
from harness.analysis.stats.power import capability, pooled_sd
from harness.errors import UserError
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import load_plan
from harness.study.plan import Plan, expand
from harness.study.resolution import SETTING, device_type
from harness.study.settings import AnalysisSettings
from harness.study.study_file import Study
from harness.study.trial import TrialSpec

ESTIMAND = (
    "mean over confirmation seeds of (variant - baseline) final validation loss in nats, each at "
    "the end of its own schedule, at equal tokens"
)


def summarise_plan(
    study: Study, plan: Plan, folder: StudyFolder, *, sigma: float | None
) -> dict[str, Any]:
    """Plain values: what is compared, what it costs, and what n seeds can and cannot show.

    Args:
        sigma: standard deviation of one run's final loss over seeds; None: that of the study file,
            or else from finished trials of this folder, if there are any.

    Raises:
        UserError: `sigma` is not positive or contradicts the study file.
    """
    specs = expand(study, plan.data_sha256, key_of=plan.key_of)
    settings, seeds = study.analysis, study.seeds.confirmation
    sigma, source = _sigma(study, plan, folder, sigma)
    rule = _rule(study, sigma)
    can = capability(
        len(seeds),
        comparisons=rule.comparisons,
        alpha=rule.alpha,
        power=rule.power,
        design=rule.design,
        sigma=sigma,
    )
    curve = power_curve(rule, planned=len(seeds)) if len(study.variants) > 1 else None
    looks = None if curve is None else _looks(study, rule)
    return {
        "study": study.name,
        "plan_sha256": plan.sha256,
        "question": study.question,
        "baseline": settings.baseline,
        "variants": [variant.name for variant in study.variants],
        "metric": "final validation loss, nats per token",
        "estimand": ESTIMAND,
        "alpha": settings.alpha,
        "comparisons": rule.comparisons,
        "margin_nats": settings.margin_nats,
        "margin_speedup_percent": settings.margin_speedup_percent,
        "looks": list(settings.looks) or [len(seeds)],
        "seeds": {"confirmation": list(seeds), "tuning": list(study.seeds.tuning)},
        "trials": len(study.variants) * len(seeds),
        "training_runs": len(specs),
        "same_configuration": [list(names) for names in plan.twins()],
        "tuning": None if study.tuning is None else _search_budget(study),
        "horizons": _horizons(study),
        "arithmetic": _arithmetic(study, plan),
        "tokens": _tokens(study, specs),
        "estimated_time_s": _estimated_time_s(study, plan, folder, specs),
        "sigma": sigma,
        "sigma_source": source,
        "capability": {**asdict(can), "sigma_source": source},
        "power_curve": None if curve is None else _plain(curve),
        "look_plan": None if looks is None else _plain_looks(looks, settings),
        "look_sentences": [] if curve is None else look_sentences(looks, settings, rule),
        "additions": growth_sentences(folder.additions(), settings),
        "can_show": [NOTHING_TO_COMPARE]
        if curve is None
        else list(curve_sentences(curve, settings, can)),
    }


def _sigma(
    study: Study, plan: Plan, folder: StudyFolder, given: float | None
) -> tuple[float | None, str | None]:
    """The noise of one run, and where it comes from."""
    stated = study.analysis.sigma
    if given is not None and not (given > 0.0 and math.isfinite(given)):
        raise UserError(f"--sigma {given:g}: a standard deviation is positive, such as 0.01")
    if stated is not None:
        if given is not None and given != stated:
            raise UserError(
                f"--sigma {given:g} contradicts analysis.sigma ({stated:g}), by which the study "
                "will be judged: leave one of them out"
            )
        return stated, "analysis.sigma"
    if given is not None:
        return given, "given"
    found = _sigma_of_finished(plan, folder)
    return found, None if found is None else "finished trials of this study"


def _sigma_of_finished(plan: Plan, folder: StudyFolder) -> float | None:
    groups: dict[str, list[float]] = {}
    if folder.plan_path.exists() and (frozen := load_plan(folder)).sha256 == plan.sha256:
        plan = frozen  # with the trials that a search has found since
    for trial in plan.trials:
        outcome = folder.trial(trial.key).outcome()
        if trial.phase != "confirmation" or outcome is None or outcome.outcome != "completed":
            continue
        if outcome.validation_loss is not None:
            groups.setdefault(trial.variant, []).append(outcome.validation_loss)
    try:
        return pooled_sd(list(groups.values()))
    except ValueError:  # no variant with two seeds that differ
        return None


def _rule(study: Study, sigma: float | None) -> Rule:
    settings = study.analysis
    return Rule(
        comparisons=max(1, len(study.variants) - 1),
        alpha=settings.alpha,
        power=settings.power,
        design="unpaired" if settings.pairing == "unpaired" else "paired",
        sigma=sigma,
        known_noise=settings.sigma is not None,
        margin=settings.margin_nats,
    )


def _plain(curve: PowerCurve) -> dict[str, Any]:
    return {
        **asdict(curve),
        "seeds_that_find_the_margin": curve.seeds_that_find_the_margin(),
        "seeds_that_show_equivalence": curve.seeds_that_show_equivalence(),
    }


def _looks(study: Study, rule: Rule) -> LookPlan | None:
    """The declared looks, or those that are proposed; None with too few seeds for two looks."""
    looks = study.analysis.looks or propose_looks(len(study.seeds.confirmation))
    return judge_looks(looks, rule, study.analysis) if len(looks) > 1 else None


def _plain_looks(looks: LookPlan, settings: AnalysisSettings) -> dict[str, Any]:
    line = f"looks = {list(looks.looks)}"
    return {**asdict(looks), "declared": bool(settings.looks), "line": line}


def _search_budget(study: Study) -> dict[str, Any]:
    """What every variant may spend on its search; halving stops some runs before."""
    tuning = study.tuning
    assert tuning is not None, "only a study with [tuning] has a budget for it"
    runs = tuning.trials * len(study.seeds.tuning)
    steps = tuning.steps or study.training.steps
    return {
        "searcher": tuning.searcher,
        "configurations_per_variant": tuning.trials,
        "training_runs_per_variant": runs,
        "tokens_per_variant": runs * steps * study.tokens_per_step,
    }


def _arithmetic(study: Study, plan: Plan) -> dict[str, Any]:
    """In what the trials are computed, and why in that where the study file leaves it open."""
    return {
        "precision": study.training.precision,
        "device_type": device_type(study),
        "ns_dtype": {
            variant.name: dtype
            for variant in study.variants
            if (dtype := getattr(variant.optimizer, SETTING, None)) is not None
        },
        "resolution": None if plan.resolution is None else plan.resolution.model_dump(mode="json"),
    }


def _horizons(study: Study) -> dict[str, Any] | None:
    """What the baseline at other lengths costs; None where the study asks for none."""
    steps, seeds = study.analysis.horizons, len(study.seeds.confirmation)
    if not steps:
        return None
    return {
        "steps": list(steps),
        "training_runs": len(steps) * seeds,
        "tokens": sum(steps) * seeds * study.tokens_per_step,
    }


def _tokens(study: Study, specs: Mapping[str, TrialSpec]) -> int:
    """Of the confirmation, of the baseline at other lengths, and of the search."""
    tokens = sum(map(_tokens_of, specs.values()))
    if study.tuning is not None:
        tokens += _search_budget(study)["tokens_per_variant"] * len(study.searched)
    return tokens


def _tokens_of(spec: TrialSpec) -> int:
    return spec.training.steps * spec.tokens_per_step


def _estimated_time_s(
    study: Study, plan: Plan, folder: StudyFolder, specs: Mapping[str, TrialSpec]
) -> float | None:
    """Finished trials' mean time for a token, for all tokens that are left, one after another."""
    outcomes = {key: folder.trial(key).outcome() for key in plan.distinct_keys}
    timed = {key: o.wall_time_s for key, o in outcomes.items() if o is not None and o.wall_time_s}
    if not timed:
        return None
    seconds_per_token = sum(timed.values()) / sum(_tokens_of(specs[key]) for key in timed)
    left = sum(_tokens_of(specs[key]) for key, outcome in outcomes.items() if outcome is None)
    return left * seconds_per_token / (study.resources.max_concurrent_trials or 1)
