"""A search space as Optuna knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.study.search_space import Choice, Grid, Int, LogUniform, Point, Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def holds(space: Space, point: Point) -> bool:
    """Whether the point lies in the space: after an amendment of the study it need not."""
    return point.keys() == space.keys() and all(
        point[name] in dimension.values
        if isinstance(dimension, Choice | Grid)
        else dimension.low <= point[name] <= dimension.high  # type: ignore[operator]
        for name, dimension in space.items()
    )


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """By setting; the numbers of a grid have no distance from each other."""
    # Here, because who analyses a study that searched nothing should not wait for Optuna.
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    def distribution(dimension: Any) -> BaseDistribution:
        if isinstance(dimension, Choice | Grid):
            return CategoricalDistribution(dimension.values)
        if isinstance(dimension, Int):
            return IntDistribution(dimension.low, dimension.high)
        logarithmic = isinstance(dimension, LogUniform)
        return FloatDistribution(dimension.low, dimension.high, log=logarithmic)

    return {name: distribution(dimension) for name, dimension in space.items()}
