"""Which experts the router uses."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from harness.analysis.study_results import StudyResults
from harness.report.figures.canvas import WIDTH, Drawing, broken
from harness.report.figures.losses import LONG_NAME


def final_router_load(study: StudyResults, variant: str) -> NDArray[np.float64] | None:
    """Shares at the last evaluation, each layer's experts sorted, then averaged over the seeds.

    Expert 3 of one seed has nothing in common with expert 3 of another: averaged without sorting,
    any router would look even.

    Returns:
        shape (layers, experts), descending along the experts; None without an MoE layer.
    """
    loads = [
        -np.sort(-np.asarray(trial.last.router_load), axis=1)
        for trial in study.of(variant)
        if trial.completed and trial.last is not None and trial.last.router_load
    ]
    return np.mean(loads, axis=0) if loads else None


def router_load(study: StudyResults) -> Drawing | None:
    """One heat map a variant: layers down, experts by load across, 1 is an equal share."""
    loads = {
        variant: load
        for variant in study.ranked()
        if (load := final_router_load(study, variant)) is not None
    }
    if not loads:
        return None
    layers, experts = next(iter(loads.values())).shape
    wide = experts > 16 or max(map(len, loads)) > LONG_NAME
    columns = min(2 if wide else 3, len(loads))
    rows = math.ceil(len(loads) / columns)
    figure = Figure(figsize=(WIDTH, 0.8 + rows * max(1.1, 0.62 + 0.24 * layers)))
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    highest = max(float((load * experts).max()) for load in loads.values())
    for axes in panels.flat[len(loads) :]:
        axes.set_visible(False)
    mesh = None
    for axes, (variant, load) in zip(panels.flat, loads.items(), strict=False):
        mesh = axes.pcolormesh(
            load * experts, vmin=0.0, vmax=max(highest, 1.5), edgecolors="white", linewidth=0.4
        )
        axes.set_title(broken(variant, LONG_NAME + 8))
        axes.grid(visible=False)
        axes.set_yticks(np.arange(layers) + 0.5, range(layers))
        stride = max(1, experts // 8)
        axes.set_xticks(np.arange(0, experts, stride) + 0.5, range(0, experts, stride))
        axes.set_ylim(layers, 0)
    size = mpl.rcParams["axes.labelsize"]
    figure.supxlabel("experts, most used first", fontsize=size)
    figure.supylabel("MoE layer", fontsize=size)
    if mesh is not None:
        figure.colorbar(mesh, ax=panels, label="load (1: equal)", aspect=8 * rows)
    return Drawing(
        figure=figure,
        caption="Share of the tokens' assignments at the last evaluation, times the number of "
        "experts: 1 is an equal share, 0 a dead expert. Each layer's experts are sorted by load, "
        "then averaged over the completed seeds.",
    )
