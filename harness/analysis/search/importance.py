"""Which settings of a search told its better half from the rest: PED-ANOVA, held to chance.

PED-ANOVA compares where the better configurations lie with where all of them lie, setting by
setting: the Pearson divergence of two Parzen estimates (Watanabe, Bansal and Hutter 2023,
arXiv:2304.10255; Optuna's evaluator). Its shares add up to 1 whatever happened, so that a search
whose settings do nothing has an important one too: with 16 configurations and 2 settings the larger
share is .77 in the middle where the scores are pure noise. So each divergence is held against those
of the same points with their scores shuffled.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analysis.search.distributions import distributions, holds
from harness.analysis.search.results import Configuration, SearchResult, VariantSearch
from harness.runs.search_log import STATES
from harness.study.search_space import Point, Space

FEWEST = 16
"""Configurations. Where one of four settings decides the score, it is found first in .97 of
simulated searches of 16 points, in .89 to .93 of 12, in .83 of 8."""
FEWEST_BETTER = 5
"""Optuna advises so many points above the quantile, at least."""
BETTER = 0.5
"""The share of the configurations that counts as the better ones. In the same simulation a quarter
finds the deciding setting less often in small searches (.56 of 8 points, .81 of 12)."""
SHUFFLES = 49
"""The smallest p is then 1/50."""
LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class Importance:
    """What the settings of one variant's search were worth.

    `shares` add up to 1, the largest first; empty where `why_not` says why nothing is known. `p` is
    how often shuffled scores give a setting at least as much, over all settings together
    (the largest of a shuffle counts), so that it needs no further adjustment.
    """

    variant: str
    configurations: int
    better: int = 0
    shares: dict[str, float] = field(default_factory=dict)
    p: dict[str, float] = field(default_factory=dict)
    why_not: str | None = None

    def beyond_chance(self, setting: str) -> bool:
        return self.p[setting] <= LEVEL

    def to_json(self) -> dict[str, Any]:
        return {
            "configurations": self.configurations,
            "better": self.better,
            "settings": {
                name: {"importance": share, "p": self.p[name]}
                for name, share in self.shares.items()
            },
            "why_not": self.why_not,
        }


def importances(search: SearchResult) -> tuple[Importance, ...]:
    """Of every variant that searched two or more settings."""
    return tuple(
        importance(found) for found in search.variants.values() if len(_settings(found.space)) > 1
    )


def importance(found: VariantSearch) -> Importance:
    """Of one variant's search, as far as it has come.

    A configuration that diverged or was stopped is none of the better ones. One that failed or ran
    out of memory is left out, as is one outside of the space that was searched last.
    """
    told = [c for c in found.configurations if _tells(c) and holds(found.space, c.point)]
    scores = [c.score for c in told if c.score is not None]
    better = min(math.ceil(BETTER * len(told)), len(scores))
    if len(told) < FEWEST or better < FEWEST_BETTER:
        return Importance(
            variant=found.variant,
            configurations=len(told),
            why_not=f"{len(told)} configurations tell something, {len(scores)} of them completed: "
            f"at least {FEWEST} and {FEWEST_BETTER} are needed",
        )
    worst = max(scores) + 1.0
    values = np.array([worst if c.score is None else c.score for c in told])
    names = _settings(found.space)
    measured = _Divergences(found.space, [c.point for c in told], names, better / len(told))
    observed = measured.of(values)
    random = np.random.default_rng(0)
    shuffled = [max(measured.of(random.permutation(values)).values()) for _ in range(SHUFFLES)]
    total = sum(observed.values()) or 1.0
    order = sorted(names, key=lambda name: -observed[name])
    return Importance(
        variant=found.variant,
        configurations=len(told),
        better=better,
        shares={name: observed[name] / total for name in order},
        p={
            name: (1 + sum(value >= observed[name] for value in shuffled)) / (1 + SHUFFLES)
            for name in order
        },
    )


def _tells(configuration: Configuration) -> bool:
    return configuration.outcome is not None and STATES[configuration.outcome] != "fail"


def _settings(space: Space) -> list[str]:
    """Those that could take more than one value."""
    return [name for name, dim in space.items() if len(getattr(dim, "values", (0, 1))) > 1]


class _Divergences:
    """The divergence of each setting for any scores of the same points."""

    def __init__(
        self, space: Space, points: list[Point], names: list[str], quantile: float
    ) -> None:
        import optuna
        from optuna.importance import PedAnovaImportanceEvaluator
        from optuna.trial import create_trial

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        own = distributions(space)
        # A quantile of 1 is refused; where all are better, nothing tells them apart.
        study = optuna.create_study()
        study.add_trials(
            [create_trial(params=point, distributions=own, value=0.0) for point in points]
        )
        # Not through `get_param_importances`, which takes three times as long around it.
        evaluator = PedAnovaImportanceEvaluator(target_quantile=min(quantile, 0.999))
        self.measure = partial(evaluator.evaluate, study, names)

    def of(self, values: NDArray[np.float64]) -> dict[str, float]:
        with warnings.catch_warnings():
            # That low values are better, which is so here.
            warnings.simplefilter("ignore")
            return self.measure(target=lambda trial: float(values[trial.number]))
