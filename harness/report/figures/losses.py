"""Training curves: the loss by step, and how far each variant is from the baseline by step."""

from __future__ import annotations

import math
from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.report.curves import Band, band, validation_loss
from harness.report.figures.canvas import Drawing, Look, looks, new_axes
from harness.report.view import StudyView, TrialView

EARLY = 0.1
"""The vertical axis is fitted to what comes after this part of the run: the fall from a random
model is many times deeper than any difference between optimizers."""


def loss_curves(view: StudyView) -> Drawing | None:
    """Mean validation loss by step with t intervals over seeds."""
    look = looks(view)
    figure, axes = new_axes(height=4.0 + _legend_height(len(view.variants)))
    shown: list[Band] = []
    for variant in view.ranked():
        trials = _shown_trials(view.of(variant))
        mean = band([validation_loss(trial) for trial in trials], level=_level(view))
        if mean is not None:
            shown.append(mean)
            _draw_band(axes, mean, look[variant], f"{variant} ({len(trials)} of {len(view.seeds)})")
        for trial in view.of(variant):
            if trial.state == "diverged":
                _draw_diverged(axes, trial, look[variant])
    if not shown:
        return None
    _fit_vertical_axis(axes, shown)
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel("validation loss (nats)")
    _legend(figure, axes, "variant (seeds)")
    return Drawing(
        figure=figure,
        caption=f"Mean over the seeds with {_level(view):.0%} t intervals. Diverged seeds are thin "
        "lines that end in a cross; they are not part of a mean. The first tenth of the run may "
        "lie above the picture.",
    )


def difference_curves(view: StudyView) -> Drawing | None:
    """Mean of (variant - baseline) by step, seed by seed, with t intervals."""
    look = looks(view)
    figure, axes = new_axes(height=4.0 + _legend_height(len(view.challengers)))
    base = {trial.seed: validation_loss(trial) for trial in _shown_trials(view.of(view.baseline))}
    shown: list[Band] = []
    for variant in view.ranked():
        if variant == view.baseline:
            continue
        differences = [
            {
                step: value - base[trial.seed][step]
                for step, value in curve.items()
                if step in base[trial.seed]
            }
            for trial in _shown_trials(view.of(variant))
            if trial.seed in base and (curve := validation_loss(trial))
        ]
        mean = band(differences, level=_level(view))
        if mean is not None:
            shown.append(mean)
            _draw_band(axes, mean, look[variant], f"{variant} ({mean.seeds} of {len(view.seeds)})")
    if not shown:
        return None
    axes.axhline(0.0, color=look[view.baseline].colour, linewidth=1.2)
    _fit_vertical_axis(axes, shown, include=(0.0,))
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel(f"loss − loss of {view.baseline} (nats)")
    _legend(figure, axes, "variant (pairs of seeds)")
    return Drawing(
        figure=figure,
        caption=f"Below the line the variant is ahead of {view.baseline} at equal steps. Mean of "
        f"the differences of equal seeds with {_level(view):.0%} t intervals. Only the end of the "
        "run, where the schedules have decayed, is the result.",
    )


FEW = 5
"""Curves whose legend fits inside the axes."""
LEGEND_COLUMNS = 3


def _legend(figure: Figure, axes: Axes, title: str) -> None:
    """Inside the axes while it is small, below them otherwise."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) <= FEW:
        axes.legend(title=title)
    else:
        figure.legend(
            handles, labels, title=title, loc="outside lower center", ncols=LEGEND_COLUMNS
        )


def _legend_height(curves: int) -> float:
    """Inches that a legend below the axes takes."""
    return 0.0 if curves <= FEW else 0.3 + 0.19 * math.ceil(curves / LEGEND_COLUMNS)


def _level(view: StudyView) -> float:
    return 1.0 - float(view.study["analysis"].get("alpha", 0.05))


def _shown_trials(trials: Iterable[TrialView]) -> list[TrialView]:
    """The completed trials, or while none is, those under way."""
    trials = list(trials)
    return [trial for trial in trials if trial.completed] or [
        trial for trial in trials if trial.state == "running"
    ]


def _draw_band(axes: Axes, mean: Band, look: Look, label: str) -> None:
    if mean.has_interval:
        axes.fill_between(
            mean.steps, mean.low, mean.high, color=look.colour, alpha=0.16, linewidth=0
        )
    axes.plot(
        mean.steps,
        mean.mean,
        color=look.colour,
        linestyle=look.line,
        marker=look.marker,
        markevery=max(1, len(mean.steps) // 8),
        label=label,
    )


def _draw_diverged(axes: Axes, trial: TrialView, look: Look) -> None:
    curve = validation_loss(trial)
    if curve:
        axes.plot(list(curve), list(curve.values()), color=look.colour, linewidth=0.7, alpha=0.8)
        axes.plot(
            list(curve)[-1:], list(curve.values())[-1:], marker="x", markersize=7, color=look.colour
        )


def _fit_vertical_axis(axes: Axes, shown: Iterable[Band], include: tuple[float, ...] = ()) -> None:
    values = list(include)
    for mean in shown:
        late = [i for i, step in enumerate(mean.steps) if step >= EARLY * mean.steps[-1]]
        values += [mean.low[i] for i in late] + [mean.high[i] for i in late]
    low, high = min(values), max(values)
    pad = 0.06 * (high - low) or 0.01
    axes.set_ylim(low - pad, high + pad)
