"""Which configuration wins, and whether the space was wide enough to say so. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.stats.power import pooled_sd
from harness.tuning.records import Configuration
from harness.tuning_settings import Border, Choice, Space

# A score within this many standard deviations of the best may be the best (statistics: the edge
# gate of the tuning protocol).
INDISTINGUISHABLE_SIGMAS = 2.0


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A value that may be the best and lies at the border of its space."""

    setting: str
    border: Border
    message: str


def best_of(configurations: Sequence[Configuration]) -> Configuration | None:
    """The lowest score; the first one of equals. Only completed configurations have a score."""
    scored = [c for c in configurations if c.score is not None]
    return min(scored, key=lambda c: (c.score, c.index)) if scored else None


def score_sd(configurations: Sequence[Configuration]) -> float | None:
    """Standard deviation of a score, the mean over tuning seeds; None with one seed.

    Pooled over the configurations, divided by the square root of the number of seeds.
    """
    groups = [list(c.losses.values()) for c in configurations if c.score is not None]
    several = [group for group in groups if len(group) > 1]
    return pooled_sd(several) / math.sqrt(len(several[0])) if several else None


def find_edges(
    space: Space,
    configurations: Sequence[Configuration],
    *,
    sigma: float | None,
    edge_fraction: float,
) -> tuple[Edge, ...]:
    """Settings whose best value, or one within 2 sigma of it, lies at a border of the space.

    Args:
        sigma: standard deviation of a score; None: only the best itself is judged.
        edge_fraction: outermost share of an interval that counts as its edge.
    """
    best = best_of(configurations)
    if best is None or best.score is None:
        return ()
    reach = best.score + INDISTINGUISHABLE_SIGMAS * (sigma or 0.0)
    near = [c for c in configurations if c.score is not None and c.score <= reach]
    near.sort(key=lambda c: c is not best)
    edges: dict[tuple[str, Border], Edge] = {}
    for configuration in near:
        for setting, border in _borders(space, configuration.point, edge_fraction):
            whose = "the best" if configuration is best else "within 2 sigma of the best"
            value = configuration.point[setting]
            message = (
                f"{setting} = {value:g} ({whose}) is at the {border} edge of "
                f"{_range(space, setting)}"
            )
            edges.setdefault(
                (setting, border), Edge(setting=setting, border=border, message=message)
            )
    return tuple(edges.values())


def _borders(
    space: Space, point: Mapping[str, Any], edge_fraction: float
) -> list[tuple[str, Border]]:
    found: list[tuple[str, Border]] = []
    for setting, dimension in space.items():
        if isinstance(dimension, Choice):
            continue
        share = dimension.share_of(point[setting])
        if share <= edge_fraction and "low" not in dimension.limits:
            found.append((setting, "low"))
        if share >= 1 - edge_fraction and "high" not in dimension.limits:
            found.append((setting, "high"))
    return found


def _range(space: Space, setting: str) -> str:
    dimension = space[setting]
    if hasattr(dimension, "values"):
        return "{" + ", ".join(f"{value:g}" for value in dimension.values) + "}"
    return f"[{dimension.low:g}, {dimension.high:g}]"
