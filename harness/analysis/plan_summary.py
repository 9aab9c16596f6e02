"""What a plan will do and what its seeds can show, before anything is trained."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from harness.analysis.stats.power import capability, pooled_sd
from harness.analysis.wording import capability_sentences
from harness.runs.folder import StudyFolder
from harness.study.plan import Plan, expand
from harness.study.study_file import Study

ESTIMAND = (
    "mean over confirmation seeds of (variant - baseline) final validation loss in nats, each at "
    "the end of its own schedule, at equal tokens"
)


def summarise_plan(
    study: Study, plan: Plan, folder: StudyFolder, *, sigma: float | None
) -> dict[str, Any]:
    """Plain values: what is compared, what it costs, and what n seeds can and cannot show.

    Args:
        sigma: standard deviation of one run's final loss over seeds; None: from finished trials of
            this folder, if there are any.
    """
    specs = expand(study, plan.data_sha256)
    settings, seeds = study.analysis, study.seeds.confirmation
    source = "given"
    if sigma is None:
        sigma, source = _sigma_of_finished(plan, folder), "finished trials of this study"
    comparisons = max(1, len(study.variants) - 1)
    can = capability(
        len(seeds),
        comparisons=comparisons,
        alpha=settings.alpha,
        power=settings.power,
        design="unpaired" if settings.pairing == "unpaired" else "paired",
        sigma=sigma,
    )
    tokens = sum(spec.training.steps * spec.tokens_per_step for spec in specs.values())
    if study.tuning is not None:
        tokens += _search_budget(study)["tokens_per_variant"] * len(study.variants)
    return {
        "study": study.name,
        "plan_sha256": plan.sha256,
        "question": study.question,
        "baseline": settings.baseline,
        "variants": [variant.name for variant in study.variants],
        "metric": "final validation loss, nats per token",
        "estimand": ESTIMAND,
        "alpha": settings.alpha,
        "margin_nats": settings.margin_nats,
        "margin_speedup_percent": settings.margin_speedup_percent,
        "looks": list(settings.looks) or [len(seeds)],
        "seeds": {"confirmation": list(seeds), "tuning": list(study.seeds.tuning)},
        "trials": len(study.variants) * len(seeds),
        "training_runs": len(specs),
        "same_configuration": [list(names) for names in plan.twins()],
        "tuning": None if study.tuning is None else _search_budget(study),
        "tokens": tokens,
        "estimated_time_s": _estimated_time_s(study, plan, folder),
        "capability": {**asdict(can), "sigma_source": source if sigma is not None else None},
        "can_show": capability_sentences(can),
    }


def _search_budget(study: Study) -> dict[str, Any]:
    """What every variant may spend on its search; halving stops some runs before."""
    tuning = study.tuning
    assert tuning is not None, "only a study with [tuning] has a budget for it"
    runs = tuning.trials * len(study.seeds.tuning)
    tokens_per_step = study.training.batch_size * study.data.sequence_length
    steps = tuning.steps or study.training.steps
    return {
        "searcher": tuning.searcher,
        "configurations_per_variant": tuning.trials,
        "training_runs_per_variant": runs,
        "tokens_per_variant": runs * steps * tokens_per_step,
    }


def _sigma_of_finished(plan: Plan, folder: StudyFolder) -> float | None:
    groups: dict[str, list[float]] = {}
    for trial in plan.trials:
        outcome = folder.trial(trial.key).outcome()
        if outcome and outcome.outcome == "completed" and outcome.validation_loss is not None:
            groups.setdefault(trial.variant, []).append(outcome.validation_loss)
    several = [values for values in groups.values() if len(values) > 1]
    return pooled_sd(several) if several else None


def _estimated_time_s(study: Study, plan: Plan, folder: StudyFolder) -> float | None:
    """Finished trials' mean time for every trial that is left, one after another."""
    outcomes = [folder.trial(key).outcome() for key in plan.distinct_keys]
    times = [o.wall_time_s for o in outcomes if o is not None and o.wall_time_s is not None]
    if not times:
        return None
    left = sum(outcome is None for outcome in outcomes)
    return left * sum(times) / len(times) / (study.resources.max_concurrent_trials or 1)
