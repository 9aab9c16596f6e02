"""Where the points of a search come from: listed beforehand, or drawn by Optuna one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from harness.analysis.search.distributions import distributions, holds
from harness.runs.search_log import Ended
from harness.study.search_space import Point, Space, grid_points

# Optuna's own default is 10 random points before the estimator starts; a small budget would never
# leave them, so at most half of it is random.
TPE_RANDOM_POINTS = 10

Earlier = tuple[Point, Ended | None]
"""A point that was drawn before, and how it ended; None: it is still open."""


class PointSource(Protocol):
    """Where one variant's points come from in one round: nothing is kept between two calls."""

    def point(self, number: int, earlier: Sequence[Earlier]) -> Point:
        """Point `number` of the round, counted from 0, given all that were drawn before it."""


class Listed:
    """Points that need no results of earlier ones."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.points = points

    def point(self, number: int, earlier: Sequence[Earlier]) -> Point:
        return self.points[number]


def draw_points(space: Space, *, searcher: str, count: int, seed: int) -> list[Point]:
    """The first `count` points of a `random`, `quasi_random` or `grid` search.

    quasi_random is a scrambled Sobol sequence (Owen 1998), which fills the space more evenly than
    independent draws; both are mapped through each dimension's own scale.
    """
    if searcher == "grid":
        return grid_points(space)[:count]
    random = np.random.default_rng(seed)
    if searcher == "quasi_random":
        from scipy.stats import qmc

        sobol = qmc.Sobol(len(space), scramble=True, rng=random)
        # Sobol sequences come in powers of two; the first ones of a longer one are still good.
        shares = sobol.random_base2(math.ceil(math.log2(count)))[:count]
    else:
        shares = random.random((count, len(space)))
    return [
        {name: dim.at(float(share)) for (name, dim), share in zip(space.items(), row, strict=True)}
        for row in shares
    ]


class Tpe:
    """Optuna's tree-structured Parzen estimator (Watanabe 2023, arXiv:2304.11127).

    Every point is drawn by a study and a sampler of its own, fed with the earlier points: what is
    drawn depends on them and on the seed, not on how often the search was interrupted. Points that
    are still open count as bad (a constant liar), so that the next one keeps away from them.
    """

    def __init__(self, space: Space, *, trials: int, seed: int) -> None:
        self.space, self.seed = space, seed
        self.random_points = min(TPE_RANDOM_POINTS, max(1, trials // 2))

    def point(self, number: int, earlier: Sequence[Earlier]) -> Point:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = np.random.SeedSequence([self.seed, number]).generate_state(1)[0]
        sampler = optuna.samplers.TPESampler(
            seed=int(seed), n_startup_trials=self.random_points, constant_liar=True
        )
        study = optuna.create_study(sampler=sampler, direction="minimize")
        own = distributions(self.space)
        for point, ended in earlier:
            if holds(self.space, point):
                study.add_trial(_trial(point, ended, own))
        return dict(study.ask(own).params)


def _trial(point: Point, ended: Ended | None, distributions: dict[str, Any]) -> Any:
    """An earlier point as Optuna knows it."""
    from optuna.trial import TrialState, create_trial

    told: dict[str, Any] = {"state": TrialState.RUNNING}
    if ended is not None:
        told = {"state": TrialState[ended.state.upper()]}
        if ended.state == "complete":
            told["value"] = ended.told
        elif ended.state == "pruned":
            told["intermediate_values"] = {ended.step or 0: ended.told}
    return create_trial(params=point, distributions=distributions, **told)
