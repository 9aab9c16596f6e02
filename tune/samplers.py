"""Where the points of a search come from: drawn beforehand, or asked of Optuna one by one."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from harness.study.search_space import (
    Choice,
    Grid,
    Int,
    LogUniform,
    Point,
    Space,
    grid_points,
)

# Optuna's own default is 10 random points before the estimator starts; a small budget would never
# leave them, so at most half of it is random.
TPE_RANDOM_POINTS = 10

LOSS = "loss"


class PointSource(Protocol):
    """Where one variant's points come from in one round."""

    def ask(self, name: str) -> Point: ...
    def tell(self, name: str, loss: float) -> None: ...


class Listed:
    """Points that need no results of earlier ones."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.left = deque(points)

    def ask(self, name: str) -> Point:
        return self.left.popleft()

    def tell(self, name: str, loss: float) -> None:
        """Nothing to learn."""


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
    """Optuna's tree-structured Parzen estimator, through Ray Tune's `OptunaSearch`."""

    def __init__(
        self, space: Space, *, trials: int, seed: int, earlier: Sequence[tuple[Point, float]]
    ) -> None:
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=min(TPE_RANDOM_POINTS, max(1, trials // 2))
        )
        self.search = OptunaSearch(
            space=_distributions(space), metric=LOSS, mode="min", sampler=sampler
        )
        for point, loss in earlier:
            self.search.add_evaluated_point(point, loss)

    def ask(self, name: str) -> Point:
        return dict(self.search.suggest(name) or {})

    def tell(self, name: str, loss: float) -> None:
        self.search.on_trial_complete(name, {LOSS: loss})


def _distributions(space: Space) -> dict[str, Any]:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    def distribution(dimension: Any) -> Any:
        if isinstance(dimension, Choice | Grid):
            return CategoricalDistribution(dimension.values)
        if isinstance(dimension, Int):
            return IntDistribution(dimension.low, dimension.high)
        logarithmic = isinstance(dimension, LogUniform)
        return FloatDistribution(dimension.low, dimension.high, log=logarithmic)

    return {name: distribution(dimension) for name, dimension in space.items()}
