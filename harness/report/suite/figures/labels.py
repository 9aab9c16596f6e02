"""Names beside the lines they belong to, without covering each other."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes


def spread(wanted: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """The places nearest to the wanted ones that lie `gap` apart within [low, high].

    In the order of the wanted ones. With too many for the room they share it evenly.
    """
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    # Groups of names that touch, each around the middle of what its names want.
    groups: list[list[float]] = []
    for index in order:
        groups.append([wanted[index]])
        while len(groups) > 1 and _first(groups[-1], gap, low, high) < gap + _last(
            groups[-2], gap, low, high
        ):
            groups[-2:] = [groups[-2] + groups[-1]]
    made = [
        _first(group, gap, low, high) + gap * number
        for group in groups
        for number in range(len(group))
    ]
    return [made[order.index(index)] for index in range(len(wanted))]


def _first(group: Sequence[float], gap: float, low: float, high: float) -> float:
    """Where the lowest name of a group stands."""
    length = gap * (len(group) - 1)
    return min(max(sum(group) / len(group) - length / 2, low), high - length)


def _last(group: Sequence[float], gap: float, low: float, high: float) -> float:
    return _first(group, gap, low, high) + gap * (len(group) - 1)


def name_lines(axes: Axes, ends: Sequence[tuple[str, float, str]], *, x: float, gap: float) -> None:
    """Writes each name right of the axes, at the height where its line ends.

    Args:
        ends: name, height and colour of each line.
        x: where the lines end.
        gap: between two names, in the unit of the axis.
    """
    low, high = axes.get_ylim()
    places = spread([y for _, y, _ in ends], gap=gap, low=low, high=high)
    for (name, y, colour), place in zip(ends, places, strict=True):
        axes.annotate(
            name,
            (x, y),
            xytext=(1.07, place),
            textcoords=axes.get_yaxis_transform(),
            annotation_clip=False,
            va="center",
            fontsize=9,
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "relpos": (0, 0.5)},
        )
