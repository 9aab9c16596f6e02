"""What a smaller search would have found."""

from __future__ import annotations

import math

from harness.analysis.shrinkage import losses_of_search
from harness.analysis.stats.aggregates import expected_best_of_k
from harness.analysis.study_results import StudyResults
from harness.report.figures.canvas import Drawing, appearances, new_axes

INDEPENDENT = ("random", "quasi_random", "grid")
"""Searchers whose points do not depend on earlier results."""


def tuning_curves(study: StudyResults) -> Drawing | None:
    """The expected best tuning score of k configurations, for each variant."""
    losses = losses_of_search(study)
    if study.search is None or not losses:
        return None
    look = appearances(study)
    figure, axes = new_axes(height=3.6)
    late = []
    for variant, values in losses.items():
        curve, own = expected_best_of_k(values), look[variant]
        late += [float(value) for value in curve[_early(curve.size) :]]
        axes.plot(
            range(1, curve.size + 1),
            curve,
            color=own.colour,
            linewidth=0.9 if own.muted else None,
            marker="" if own.muted else own.marker,
            markevery=max(1, curve.size // 8),
            label=None if own.muted else variant,
            zorder=1 if own.muted else 2.5,
        )
    low, high = min(late), max(late)
    pad = 0.08 * (high - low) or 0.01
    axes.set_ylim(low - pad, high + pad)
    axes.set_xlabel("configurations tried (k)")
    axes.set_ylabel("expected best tuning loss (nats)")
    axes.legend()
    return Drawing(figure=figure, caption=_caption(study.search.searcher))


def _early(size: int) -> int:
    """Where the axis begins to be fitted: one or two configurations may have found nothing."""
    return min(size - 1, max(1, math.ceil(0.1 * size)))


def _caption(searcher: str) -> str:
    text = (
        "What a budget of k of these configurations would have found on average. One that "
        "diverged or was stopped counts as the worst completed one of all variants; one that "
        "failed is left out, for that says nothing of its loss. A "
        "curve that still falls at its end was searched too little. The losses are those of the "
        "tuning seeds: the choice makes them too good, the confirmation seeds measure."
    )
    if searcher not in INDEPENDENT:
        text += (
            f" The formula takes the configurations in random order; the {searcher} searcher "
            "learns from earlier ones, so that small budgets look better here than they were."
        )
    return text
