"""The figures of a report. One more figure is one more function and one more line here."""

from __future__ import annotations

from collections.abc import Callable

from harness.analysis.study_results import StudyResults
from harness.report.elements import FigureImage
from harness.report.figures.canvas import Drawing, lay_out, png, style, svg
from harness.report.figures.decomposition import decomposition
from harness.report.figures.forest import forest
from harness.report.figures.heatmap import heatmap
from harness.report.figures.losses import difference_curves, difference_panels, loss_curves
from harness.report.figures.measures import comparison, time_breakdown
from harness.report.figures.router import router_load
from harness.report.figures.seeds import seed_strip
from harness.report.figures.sensitivity import sensitivity
from harness.report.figures.tuning import tuning_curves

FIGURES: dict[str, tuple[str, Callable[[StudyResults], Drawing | None]]] = {
    "forest": ("Difference from the baseline", forest),
    "decomposition": ("The claim taken apart", decomposition),
    "seed_strip": ("Every seed", seed_strip),
    "loss_curves": ("Validation loss by step", loss_curves),
    "difference_curves": ("Distance from the baseline by step", difference_curves),
    "difference_panels": ("Every variant by step", difference_panels),
    "comparison": ("Quality and cost", comparison),
    "sensitivity": ("Sensitivity to the learning rates", sensitivity),
    "heatmap": ("Loss over two hyperparameters", heatmap),
    "tuning_curves": ("What a smaller search would have found", tuning_curves),
    "time_breakdown": ("Where the time went", time_breakdown),
    "router_load": ("Router load", router_load),
}
"""Name of the PNG: title and function; None is returned where there is nothing to draw."""


def draw_all(study: StudyResults) -> dict[str, FigureImage]:
    """Every figure that this study has, drawn, by name."""
    images = {}
    with style():
        for name, (title, function) in FIGURES.items():
            drawing = function(study)
            if drawing is not None:
                lay_out(drawing.figure)
                images[name] = FigureImage(
                    name=name,
                    title=title,
                    caption=drawing.caption,
                    png=png(drawing.figure),
                    svg=svg(drawing.figure),
                    width=round(float(drawing.figure.get_figwidth()) * 96),
                )
    return images


__all__ = ["FIGURES", "draw_all"]
