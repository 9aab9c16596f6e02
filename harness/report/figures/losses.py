"""Training curves: the loss by step, and how far each variant is from the baseline by step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.analysis.learning_curves import Band, band, validation_loss
from harness.analysis.study_results import StudyResults
from harness.report.figures.canvas import (
    WIDTH,
    Appearance,
    Drawing,
    appearances,
    broken,
    new_axes,
)
from harness.report.figures.coincidence import Share, about, shares
from harness.runs.snapshot import TrialSnapshot

EARLY = 0.1
"""The vertical axis is fitted to what comes after this part of the run: the fall from a random
model is many times deeper than any difference between optimizers."""
FEW = 5
"""Curves whose legend fits inside the axes."""
LONG_NAME = 16
"""Characters of a name of which three fit beside each other."""
LONGEST_INSIDE = 26
"""Characters of a name that leave the axes visible beside it, and of which two fit in a row."""
PANEL_COLUMNS = 3


def loss_curves(study: StudyResults) -> Drawing | None:
    """Mean validation loss by step with t intervals over seeds."""
    look = appearances(study)
    figure, axes = new_axes(height=4.0 + _legend_height(look))
    curves = {
        variant: mean
        for variant in study.ranked()
        if (mean := band(_curves(study.of(variant)), level=study.level)) is not None
    }
    if not curves:
        return None
    found = _draw_bands(axes, curves, look, seeds=len(study.seeds))
    for trial in study.confirmation:
        if trial.state == "diverged":
            _draw_diverged(axes, trial, look[trial.variant])
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel("validation loss (nats)")
    _legend(figure, axes, "variant (seeds)")
    return Drawing(
        figure=figure,
        caption=f"Mean over the seeds with {study.percent} t intervals. Diverged seeds are thin "
        "lines that end in a cross; they are not part of a mean. The first tenth of the run may "
        f"lie above the picture.{about(found)}{_about_grey(look.values())}",
    )


def difference_curves(study: StudyResults) -> Drawing | None:
    """Mean of (variant - baseline) by step, seed by seed, with t intervals."""
    look = appearances(study)
    figure, axes = new_axes(height=4.0 + _legend_height(look))
    curves = _differences(study)
    if not curves:
        return None
    axes.axhline(0.0, color=look[study.baseline].colour, linewidth=1.2)
    found = _draw_bands(axes, curves, look, seeds=len(study.seeds), zero=study.baseline)
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel(f"loss − loss of {study.baseline} (nats)")
    _legend(figure, axes, "variant (pairs of seeds)")
    return Drawing(
        figure=figure,
        caption=f"Below the line the variant is ahead of {study.baseline} at equal steps. Mean of "
        f"the differences of equal seeds with {study.percent} t intervals. Only the end of the "
        "run, where the schedules have decayed, is the result."
        f"{about(found)}{_about_grey(look.values())}",
    )


def difference_panels(study: StudyResults) -> Drawing | None:
    """One small picture a variant, where one picture of all of them leaves some in grey."""
    look = appearances(study)
    curves = _differences(study)
    if not curves or not any(item.muted for item in look.values()):
        return None
    rows = math.ceil(len(curves) / PANEL_COLUMNS)
    figure = Figure(figsize=(WIDTH, 0.5 + 1.3 * rows))
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, PANEL_COLUMNS, squeeze=False, sharex=True, sharey="row")
    for axes in panels.flat[len(curves) :]:
        axes.set_visible(False)
    for row, line in enumerate(panels):
        names = list(curves)[PANEL_COLUMNS * row : PANEL_COLUMNS * (row + 1)]
        for axes, variant in zip(line, names, strict=False):
            axes.axhline(0.0, color=look[study.baseline].colour, linewidth=1.0)
            _draw_band(axes, curves[variant], look[variant], variant)
            lost = curves[variant].seeds < len(study.seeds)
            of = f" ({curves[variant].seeds} of {len(study.seeds)})" if lost else ""
            title = broken(variant, LONG_NAME + 8) + of
            axes.set_title(title, fontsize=8.5 if len(variant) <= LONG_NAME else 7)
            axes.tick_params(labelsize=8)
            axes.locator_params(nbins=4)
        _fit_vertical_axis(line[0], [curves[name] for name in names], include=(0.0,))
    figure.supxlabel("optimizer steps", fontsize=9.5)
    figure.supylabel(f"loss − loss of {study.baseline} (nats)", fontsize=9.5)
    return Drawing(
        figure=figure,
        caption=f"Every variant against {study.baseline} (the line at zero), best first: mean "
        f"difference of equal seeds with its {study.percent} t interval. Each row has its own "
        "vertical scale.",
    )


def _differences(study: StudyResults) -> dict[str, Band]:
    """Variant minus baseline by step, over the seeds that both have, best variant first."""
    base = {trial.seed: validation_loss(trial) for trial in _shown_trials(study.of(study.baseline))}
    found = {}
    for variant in study.ranked():
        if variant == study.baseline:
            continue
        differences = [
            {
                step: value - base[trial.seed][step]
                for step, value in curve.items()
                if step in base[trial.seed]
            }
            for trial in _shown_trials(study.of(variant))
            if trial.seed in base and (curve := validation_loss(trial))
        ]
        mean = band(differences, level=study.level)
        if mean is not None:
            found[variant] = mean
    return found


def _curves(trials: Sequence[TrialSnapshot]) -> list[dict[int, float]]:
    return [validation_loss(trial) for trial in _shown_trials(trials)]


def _shown_trials(trials: Iterable[TrialSnapshot]) -> list[TrialSnapshot]:
    """The completed trials, or while none is, those under way."""
    trials = list(trials)
    return [trial for trial in trials if trial.completed] or [
        trial for trial in trials if trial.state == "running"
    ]


def _draw_bands(
    axes: Axes,
    curves: dict[str, Band],
    look: dict[str, Appearance],
    *,
    seeds: int,
    zero: str | None = None,
) -> dict[str, Share]:
    """In colour what has a colour; the axis is fitted to that, the grey curves may leave it.

    Args:
        zero: whose curve is the line at zero, which is drawn already.
    """
    coloured = {variant: mean for variant, mean in curves.items() if not look[variant].muted}
    _fit_vertical_axis(axes, (coloured or curves).values(), include=() if zero is None else (0.0,))
    found = _shares(axes, coloured, zero=zero)
    for variant, mean in curves.items():
        label = f"{variant} ({mean.seeds} of {seeds})"
        if look[variant].muted:
            _draw_muted(axes, mean, look[variant])
        else:
            _draw_band(axes, mean, look[variant], label, share=found[variant])
    if len(coloured) < len(curves):
        others = f"{len(curves) - len(coloured)} others"
        grey = next(item.colour for item in look.values() if item.muted)
        axes.plot([], [], color=grey, linewidth=0.9, label=others)
    return found


def _shares(axes: Axes, curves: dict[str, Band], *, zero: str | None) -> dict[str, Share]:
    """Which curves lie on each other where they are far enough apart to be told by their height."""
    late = {variant: [mean.mean[i] for i in _late(mean)] for variant, mean in curves.items()}
    if zero is not None:
        longest = max(map(len, late.values()), default=0)
        late = {zero: [0.0] * longest, **late}
    low, high = axes.get_ylim()
    return shares(late, height=high - low)


def _late(mean: Band) -> list[int]:
    return [i for i, step in enumerate(mean.steps) if step >= EARLY * mean.steps[-1]]


def _draw_muted(axes: Axes, mean: Band, look: Appearance) -> None:
    axes.plot(mean.steps, mean.mean, color=look.colour, linewidth=0.9, alpha=0.8, zorder=1)


def _draw_band(
    axes: Axes, mean: Band, look: Appearance, label: str, *, share: Share | None = None
) -> None:
    share = share or Share()
    if mean.has_interval:
        axes.fill_between(
            mean.steps, mean.low, mean.high, color=look.colour, alpha=0.16, linewidth=0
        )
    axes.plot(
        mean.steps,
        mean.mean,
        color=look.colour,
        linestyle=share.line_style,
        marker=look.marker,
        markevery=share.markers(len(mean.steps)),
        label=label,
        # What has gaps lies above what has none.
        zorder=2.5 + 0.01 * share.index,
    )


def _draw_diverged(axes: Axes, trial: TrialSnapshot, look: Appearance) -> None:
    curve = validation_loss(trial)
    if curve:
        axes.plot(list(curve), list(curve.values()), color=look.colour, linewidth=0.7, alpha=0.8)
        axes.plot(
            list(curve)[-1:], list(curve.values())[-1:], marker="x", markersize=7, color=look.colour
        )


def _fit_vertical_axis(axes: Axes, shown: Iterable[Band], include: tuple[float, ...] = ()) -> None:
    values = list(include)
    for mean in shown:
        late = _late(mean)
        values += [mean.low[i] for i in late] + [mean.high[i] for i in late]
    low, high = min(values), max(values)
    pad = 0.06 * (high - low) or 0.01
    axes.set_ylim(low - pad, high + pad)


def _about_grey(all_appearances: Iterable[Appearance]) -> str:
    if not any(look.muted for look in all_appearances):
        return ""
    return " In colour: the baseline and the best variants. Grey lines may leave the picture."


def _legend(figure: Figure, axes: Axes, title: str) -> None:
    """Inside the axes while it is small, below them otherwise."""
    handles, labels = axes.get_legend_handles_labels()
    names = [label.split(" (")[0] for label in labels]
    if _fits_inside(names):
        axes.legend(title=title)
    else:
        figure.legend(
            handles,
            labels,
            title=title,
            loc="outside lower center",
            ncols=_legend_columns(names),
        )


def _fits_inside(names: Sequence[str]) -> bool:
    return len(names) <= FEW and all(len(name) <= LONGEST_INSIDE for name in names)


def _legend_columns(names: Sequence[str]) -> int:
    longest = max(map(len, names))
    return 3 if longest <= LONG_NAME else 2 if longest <= LONGEST_INSIDE else 1


def _legend_height(look: dict[str, Appearance]) -> float:
    """Inches that a legend below the axes takes."""
    named = [variant for variant, own in look.items() if not own.muted]
    names = [*named, *["others"] * (len(named) < len(look))]
    if _fits_inside(names):
        return 0.0
    return 0.3 + 0.19 * math.ceil(len(names) / _legend_columns(named))
