"""Which configuration wins, and whether the space was wide enough to say so. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.analysis.search.results import Configuration
from harness.study.search_space import Border, Choice, Space

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
    """Standard deviation of a score, the mean over the tuning seeds; None with one seed.

    From the residuals of configurations and seeds, `r_ij = x_ij - mean_i - mean_j + mean`: what a
    seed adds to every configuration alike does not decide between them. Their mean square has
    `(C - 1)(S - 1)` degrees of freedom and is divided by the number of seeds `S`.
    """
    rows = [list(c.losses.values()) for c in configurations if c.score is not None]
    if len(rows) < 2 or len(rows[0]) < 2:
        return None
    losses = np.array(rows)  # (C, S)
    residuals = losses - losses.mean(axis=1, keepdims=True) - losses.mean(axis=0) + losses.mean()
    freedom = (losses.shape[0] - 1) * (losses.shape[1] - 1)
    return math.sqrt(float((residuals**2).sum()) / freedom / losses.shape[1])


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
