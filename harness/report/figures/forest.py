"""The result in one picture: every difference from the baseline with the interval that decides."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from harness.analysis.results import Comparison
from harness.analysis.stats.verdict import Verdict
from harness.analysis.study_results import StudyResults
from harness.analysis.wording import interval_decimals
from harness.report import numbers
from harness.report.figures.canvas import (
    SHOWN_SPANS,
    WIDTH,
    Drawing,
    appearances,
    broken,
    name_rows,
    new_axes,
    text_width,
)

ARROWS: dict[Verdict, str] = {
    "better by the margin": "◀◀",
    "better": "◀",
    "equivalent": "=",
    "inconclusive": "?",
    "worse": "▶",
    "worse by the margin": "▶▶",
}
"""Left is better, as on the axis."""

MIDDLE = 3.4
"""Inches that are left for the intervals, however long the names are."""
LABEL_SIZE = 9.0
Range = tuple[float, float]


def forest(study: StudyResults) -> Drawing | None:
    """Differences from the baseline with their intervals, and the margin as a band."""
    comparisons = study.comparisons_in_rank_order()
    if all(comparison.mean_difference is None for comparison in comparisons):
        return None
    look = appearances(study)
    margin = study.analysis.margin if study.analysis else None
    names = [broken(c.variant) for c in comparisons]
    labels = [_label(comparison) for comparison in comparisons]
    lines = max(text.count("\n") + 1 for text in [*names, *labels])
    figure, axes = new_axes(
        width=_width(names, labels), height=1.0 + (0.1 + 0.17 * lines) * max(2, len(comparisons))
    )
    shown = shown_range(comparisons, margin)
    if margin is not None:
        axes.axvspan(-margin, margin, color="#009E73", alpha=0.13, linewidth=0)
    axes.axvline(0.0, color=look[study.baseline].colour, linewidth=1.2)
    for row, (comparison, label) in enumerate(zip(comparisons, labels, strict=True)):
        _draw(axes, row, comparison, shown, look[comparison.variant].colour)
        _write_label(axes, row, label, strong=comparison.verdict not in QUIET)
    name_rows(axes, names)
    axes.set_xlim(shown)
    axes.set_xlabel(f"validation loss − that of {study.baseline} (nats); left is better")
    return Drawing(figure=figure, caption=_caption(study, comparisons, margin, shown))


QUIET: tuple[Verdict, ...] = ("equivalent", "inconclusive")


def _width(names: Sequence[str], labels: Sequence[str]) -> float:
    """Inches that leave room for the intervals between the longest name and the longest label."""
    left = max(text_width(name, size=10) for name in names)
    right = max(text_width(label, size=LABEL_SIZE) for label in labels)
    return max(WIDTH, left + MIDDLE + right)


def _label(comparison: Comparison) -> str:
    p = numbers.p_equals(comparison.decisive_p)
    exact = numbers.exact_probability(comparison.exact_p)
    fragile = ", fragile" if comparison.fragile else ""
    word = comparison.verdict
    return f"{ARROWS[word]} {word}\n    {p} (exact {exact}){fragile}"


def _write_label(axes: Axes, row: int, label: str, *, strong: bool) -> None:
    axes.annotate(
        label,
        (1.0, row),
        xycoords=axes.get_yaxis_transform(),
        xytext=(12, 0),
        textcoords="offset points",
        annotation_clip=False,
        va="center",
        fontsize=LABEL_SIZE,
        fontweight="bold" if strong else "normal",
    )


def _ends(comparison: Comparison) -> Range | None:
    """The interval, or the difference itself where nothing varied; None for ranks."""
    if comparison.mean_difference is None:
        return None
    found, value = comparison.interval, comparison.mean_difference
    return (value, value) if found is None else (found.low, found.high)


def shown_range(comparisons: Sequence[Comparison], margin: float | None) -> Range:
    """Both ends of the axis: zero, the margin, and every interval that is no outlier."""
    ends = [found for comparison in comparisons if (found := _ends(comparison)) is not None]
    reaches = sorted(reach for low, high in ends if (reach := max(-low, high)) > 0.0)
    limit = SHOWN_SPANS * reaches[(len(reaches) - 1) // 2] if reaches else 0.0
    inside = [(low, high) for low, high in ends if max(-low, high) <= limit]
    around = margin or 0.0
    left = min([-around, *(low for low, _ in inside)])
    right = max([around, *(high for _, high in inside)])
    pad = 0.07 * (right - left) or 0.01
    return left - pad, right + pad


def _draw(axes: Axes, row: int, comparison: Comparison, shown: Range, colour: str) -> None:
    ends, value = _ends(comparison), comparison.mean_difference
    if ends is None or value is None:
        _write_inside(axes, row, "compared by ranks, no mean")
        return
    low, high = (min(max(end, shown[0]), shown[1]) for end in ends)
    if low < high:
        axes.plot([low, high], [row, row], color=colour, linewidth=3.2, solid_capstyle="butt")
    if shown[0] <= value <= shown[1]:
        axes.plot(value, row, "o", color=colour, markersize=7.5, markeredgecolor="white")
    beyond = ends[0] < shown[0], ends[1] > shown[1]
    for side, marker in enumerate("<>"):
        if beyond[side]:
            axes.plot(shown[side], row, marker, color=colour, markersize=9, clip_on=False, zorder=3)
            _write_beyond(axes, row, comparison, shown, side)


def _write_beyond(axes: Axes, row: int, comparison: Comparison, shown: Range, side: int) -> None:
    """What the arrow points to: the whole result, or the end of the interval that is not shown."""
    ends, value = _ends(comparison), comparison.mean_difference
    assert ends is not None, "only a difference has an arrow"
    assert value is not None, "only a difference has an arrow"
    places = interval_decimals(comparison.interval)
    text = numbers.difference(ends[side], places=places)
    if not shown[0] <= value <= shown[1]:
        whole = "" if comparison.interval is None else f" {numbers.interval(comparison.interval)}"
        text = numbers.difference(value, places=places) + whole
    axes.annotate(
        text,
        (shown[side], row),
        xytext=((9, -9)[side], 0),
        textcoords="offset points",
        ha=("left", "right")[side],
        va="center",
        fontsize=8,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
    )


def _write_inside(axes: Axes, row: int, text: str) -> None:
    axes.text(
        0.5,
        row,
        text,
        transform=axes.get_yaxis_transform(),
        ha="center",
        va="center",
        fontsize=LABEL_SIZE,
        color="#555555",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
    )


def _caption(
    study: StudyResults, comparisons: Sequence[Comparison], margin: float | None, shown: Range
) -> str:
    together = f", for all {len(comparisons)} together" if len(comparisons) > 1 else ""
    looks = " and over all looks" if study.settings.analysis.looks else ""
    text = (
        "Mean difference of the final losses and the interval that the verdict is read from, which "
        f"holds at {study.percent}{together}{looks}. Beside each verdict its p and the exact p of "
        "this comparison alone."
    )
    if margin is not None:
        text += f" Green: differences within ±{margin:.4g} nats do not matter in practice."
    ends = [found for comparison in comparisons if (found := _ends(comparison)) is not None]
    if any(low < shown[0] or high > shown[1] for low, high in ends):
        text += " An arrow at the border points to what lies beyond, and says what it is."
    if any(comparison.fragile for comparison in comparisons):
        text += " Fragile: so few seeds that one odd run can decide."
    return text
