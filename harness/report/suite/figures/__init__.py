"""The figures of a suite. One more figure is one more function and one more line here."""

from __future__ import annotations

from collections.abc import Callable

from harness.analysis.suite.results import SuiteAnalysis
from harness.report.elements import FigureImage
from harness.report.figures import image_of
from harness.report.figures.canvas import Drawing, style
from harness.report.suite.figures.leaderboard import leaderboard
from harness.report.suite.figures.profiles import profiles
from harness.report.suite.figures.ranks import ranks
from harness.report.suite.figures.scaling import (
    hyperparameters,
    speedup_by_length,
    speedup_by_size,
)
from harness.report.suite.figures.verdicts import verdicts

FIGURES: dict[str, tuple[str, Callable[[SuiteAnalysis], Drawing | None]]] = {
    "leaderboard": ("The leaderboard", leaderboard),
    "verdicts": ("Every contestant on every task", verdicts),
    "profiles": ("Performance profiles", profiles),
    "ranks": ("Average ranks", ranks),
    "speedup_by_size": ("Speed-up against model size", speedup_by_size),
    "speedup_by_length": ("Speed-up against length", speedup_by_length),
    "hyperparameters": ("Tuned hyperparameters against size", hyperparameters),
}
"""Name of the PNG: title and function; None is returned where there is nothing to draw."""


def draw_all(analysis: SuiteAnalysis) -> dict[str, FigureImage]:
    """Every figure that this suite has, drawn, by name."""
    images = {}
    with style():
        for name, (title, function) in FIGURES.items():
            drawing = function(analysis)
            if drawing is not None:
                images[name] = image_of(drawing, name=name, title=title)
    return images
