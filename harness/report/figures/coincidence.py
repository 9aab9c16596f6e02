"""Curves that lie on each other: found, and drawn so that each of them is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Dashes = tuple[float, tuple[float, ...]]

LINE_SHARE = 0.006
"""Of the height of a picture, about the width of one line: two that are closer cannot be told
apart."""
DASH_POINTS = 5.0


@dataclass(frozen=True, kw_only=True)
class Share:
    """The part of a common line that a curve has: `index` of `of` curves that coincide."""

    index: int = 0
    of: int = 1

    @property
    def line_style(self) -> str | Dashes:
        """The first curve is whole and lies below; the others are dashes that leave gaps on it."""
        if self.index == 0:
            return "-"
        gaps = DASH_POINTS * (self.of - 1)
        return DASH_POINTS * (self.index - 1), (DASH_POINTS, gaps)

    def markers(self, points: int) -> tuple[int, int]:
        """Which points are marked, `(first, every)`: no two curves mark the same one."""
        every = max(1, points // 8)
        if self.of > 1:
            every = max(every, self.of)
        return self.index * every // self.of, every


def shares(curves: Mapping[str, Sequence[float]], *, height: float) -> dict[str, Share]:
    """The share of each curve, by name: curves of one line in the order given.

    Args:
        curves: values at the same steps; curves of other lengths never coincide.
        height: what the picture shows from its lower to its upper edge.
    """
    groups: list[list[str]] = []
    for name, values in curves.items():
        for group in groups:
            if _coincide(values, curves[group[0]], tolerance=LINE_SHARE * height):
                group.append(name)
                break
        else:
            groups.append([name])
    return {
        name: Share(index=index, of=len(group))
        for group in groups
        for index, name in enumerate(group)
    }


def _coincide(one: Sequence[float], other: Sequence[float], *, tolerance: float) -> bool:
    return len(one) == len(other) and all(
        abs(a - b) <= tolerance for a, b in zip(one, other, strict=True)
    )


def about(found: Mapping[str, Share]) -> str:
    """A sentence for the caption; empty where every curve is alone."""
    if all(share.of == 1 for share in found.values()):
        return ""
    return " Where curves lie on each other, one is whole and the others are dashes on it."
