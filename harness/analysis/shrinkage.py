"""What the search of a tuning phase says beside its result: shrinkage, warnings, all its losses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.analysis.stats.arrays import MINIMUM_SEEDS, is_constant
from harness.analysis.stats.intervals import Interval, t_interval
from harness.analysis.study_results import StudyResults
from harness.runs.search_log import STATES


@dataclass(frozen=True, kw_only=True)
class Shrinkage:
    """How much of the chosen configuration's tuning score was luck.

    `shrinkage = tuning score - confirmation mean`: below 0 the choice looked better than it is. It
    is None where `why_not` has a reason. `interval` tells it from the noise of the seeds, which are
    others in both phases; it is None where too little varied to judge that. `basis` says in words
    what the interval rests on, or why there is none.
    """

    variant: str
    tuning_score: float
    confirmation_mean: float | None = None
    shrinkage: float | None = None
    interval: Interval | None = None
    basis: str | None = None
    why_not: str | None = None


def shrinkages(study: StudyResults) -> tuple[Shrinkage, ...]:
    """One for each variant whose search chose a configuration."""
    return tuple(_shrinkages(study))


def _shrinkages(study: StudyResults) -> Iterator[Shrinkage]:
    if study.search is None:
        return
    for name, found in study.search.variants.items():
        if found.chosen is None or found.chosen.score is None:
            continue
        score, trials = found.chosen.score, study.of(name)
        losses = [trial.loss for trial in trials if trial.loss is not None]
        if _shorter(study):
            why_not = "the runs of the search were shorter"
        elif any(trial.outcome is None for trial in trials) or not trials:
            why_not = "not confirmed yet"
        elif len(losses) < len(trials):
            why_not = "not every confirmation run has a final loss"
        else:
            tuning = list(found.chosen.losses.values())
            interval, basis = shrinkage_interval(tuning, losses, level=study.level)
            mean = sum(losses) / len(losses)
            yield Shrinkage(
                variant=name,
                tuning_score=score,
                confirmation_mean=mean,
                shrinkage=score - mean,
                interval=interval,
                basis=basis,
            )
            continue
        yield Shrinkage(variant=name, tuning_score=score, why_not=why_not)


def shrinkage_interval(
    tuning: Sequence[float], confirmation: Sequence[float], *, level: float
) -> tuple[Interval | None, str]:
    """The t interval of `mean(tuning) - mean(confirmation)`, and in words what it rests on.

    `s sqrt(1/n_t + 1/n_c)` with n_t + n_c - 2 degrees of freedom and s pooled over both phases: one
    configuration is trained alike in both, so the noise of a run is the same. With one tuning seed
    s is that of the confirmation seeds alone, as for the prediction of one more run.

    The choice itself is left out: of many configurations the one with the luckiest seeds is chosen,
    so that an interval below 0 is what a search with few seeds leads one to expect.

    Args:
        tuning: final losses of the chosen configuration by tuning seed, one at least.
        confirmation: those by confirmation seed, none of them a tuning seed.
        level: coverage.

    Source: Student's t for two samples. Welch's, for unequal noise, covers 92 % with 2 tuning and 5
    confirmation seeds.
    """
    own, fresh = np.asarray(tuning), np.asarray(confirmation)
    if fresh.size < MINIMUM_SEEDS:
        return None, f"no interval: only {fresh.size} of {MINIMUM_SEEDS} confirmation seeds needed"
    if is_constant(fresh) and is_constant(own):
        return None, "no interval: the seeds gave the same loss"
    freedom = own.size + fresh.size - 2
    squares = float(own.var() * own.size + fresh.var() * fresh.size)
    interval = t_interval(
        float(own.mean() - fresh.mean()),
        standard_error=math.sqrt(squares / freedom * (1.0 / own.size + 1.0 / fresh.size)),
        degrees_of_freedom=freedom,
        level=level,
    )
    if own.size == 1:
        return interval, f"one tuning seed, its noise taken from {fresh.size} confirmation seeds"
    return interval, f"t over {own.size} tuning and {fresh.size} confirmation seeds"


def _shorter(study: StudyResults) -> bool:
    tuning, steps = study.settings.tuning, study.settings.training.steps
    return tuning is not None and tuning.steps is not None and tuning.steps != steps


AS_PUBLISHED = "it competes with the settings it names, as `tuned = false` asks"


def not_tuned(study: StudyResults, variant: str) -> str | None:
    """Why the variant does not count as tuned; None if it does or the study searches nothing."""
    if study.search is None:
        return None
    if not study.variant(variant).tuned:
        return AS_PUBLISHED
    if variant not in study.search.variants:
        return None
    found = study.search.variants[variant]
    if found.tuned:
        return None
    return "; ".join(found.edges) or "its search is not finished"


def losses_of_search(study: StudyResults) -> dict[str, list[float]]:
    """Every ended configuration's score by variant, in rank order.

    One that diverged or was stopped takes the worst score of all variants. One that failed or ran
    out of memory is left out: that says nothing of its loss. So is a variant of which nothing
    completed where no variant completed anything.
    """
    if study.search is None:
        return {}
    ended = {
        name: [
            c.score
            for c in study.search.variants[name].configurations
            if c.outcome is not None and STATES[c.outcome] != "fail"
        ]
        for name in study.ranked()
        if name in study.search.variants
    }
    worst = max(
        (score for scores in ended.values() for score in scores if score is not None),
        default=math.inf,
    )
    if not math.isfinite(worst):
        return {}
    return {
        name: [worst if score is None else score for score in scores]
        for name, scores in ended.items()
        if scores
    }


def settings_in_force(study: StudyResults, variant: str) -> dict[str, Any]:
    """The variant's table as it is confirmed; what a search still has to choose is missing."""
    own = study.variant(variant)
    settings = own.model_dump(mode="json", exclude={"name"})
    specs = [trial.spec for trial in study.of(variant) if trial.spec is not None]
    if own.space and specs:
        settings["optimizer"] = specs[0].optimizer.model_dump(mode="json")
    elif own.space:
        for setting in own.space:
            table, _, name = setting.rpartition(".")
            inner = settings["optimizer"]
            (inner[table] if table else inner).pop(name, None)
    return settings
