"""Figures: drawn without global state, and none where there is nothing to draw."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.analysis.study_analysis import analyse_study
from harness.analysis.study_results import load_results
from harness.report.figures import FIGURES, draw_all
from harness.report.figures.canvas import HIGHLIGHTED, WIDTH, appearances, style
from harness.report.figures.losses import difference_panels
from harness.report.figures.router import final_router_load
from harness.report.figures.sensitivity import _scale, sensitivity
from harness.runs.folder import StudyFolder

Write = Callable[..., StudyFolder]
ONLY_FOR_MANY_VARIANTS = {"difference_panels"}
ONLY_AFTER_A_SEARCH = {"tuning_curves"}
ONLY_WHERE_ASKED_FOR = {"decomposition"}
NINETEEN = {"adamw": {"kind": "adamw", "lr": 0.004}} | {
    f"adamw-{i}": {"kind": "adamw", "lr": 0.001 * i} for i in range(5, 23)
}


def test_every_figure_of_an_eventful_study_is_drawn_and_the_style_of_others_left_alone(
    eventful_study: StudyFolder,
) -> None:
    analyse_study(eventful_study)
    before = mpl.rcParams["font.size"]
    images = draw_all(load_results(eventful_study))
    absent = ONLY_FOR_MANY_VARIANTS | ONLY_AFTER_A_SEARCH | ONLY_WHERE_ASKED_FOR | {"heatmap"}
    assert set(images) == set(FIGURES) - absent
    assert all(image.png.startswith(b"\x89PNG") for image in images.values())
    assert all(image.caption.endswith((".", ")")) for image in images.values())
    assert mpl.rcParams["font.size"] == before


def test_nothing_is_drawn_where_nothing_was_trained(made_up_study: Write) -> None:
    folder = made_up_study()
    for path in (folder.path / "trials").iterdir():
        for file in path.iterdir():
            file.unlink()
    assert draw_all(load_results(folder)) == {}


def test_of_nineteen_variants_the_best_have_colours_and_the_others_are_grey(
    made_up_study: Write,
) -> None:
    effects = {f"adamw-{i}": 0.05 * i for i in range(5, 23)}
    folder = made_up_study(variants=NINETEEN, seeds=(0, 1, 2), every=60, effects=effects)
    view = load_results(folder)
    with style():
        found = appearances(view)
    assert found["adamw"].colour == "#222222"
    in_colour = [name for name, look in found.items() if not look.muted]
    assert in_colour == ["adamw", *(f"adamw-{i}" for i in range(5, 5 + HIGHLIGHTED))]
    assert len({found[name] for name in in_colour}) == len(in_colour)
    with style():
        drawing = difference_panels(view)
    assert drawing is not None
    shown = [axes for axes in drawing.figure.axes if axes.get_visible()]
    assert len(shown) == 18, "every variant has a picture of its own"


@pytest.mark.parametrize(
    ("slope", "expected"),
    [
        (0.1, {"o": [0.01], "x": [0.08]}),
        # The best is not at an edge: the rate beyond it was tried and diverged.
        (-0.1, {"x": [0.08]}),
    ],
)
def test_a_best_rate_at_the_edge_is_ringed_and_a_divergence_ticked(
    made_up_study: Write, slope: float, expected: dict[str, list[float]]
) -> None:
    rates = {f"muon-{lr}": {"kind": "muon", "lr": lr} for lr in (0.01, 0.02, 0.04, 0.08)}
    folder = made_up_study(
        variants={"adamw": {"kind": "adamw", "lr": 0.004}, **rates},
        effects={name: slope * index for index, name in enumerate(rates)},
        diverged={("muon-0.08", 1): 60},
        every=60,
    )
    with style():
        drawing = sensitivity(load_results(folder))
    assert drawing is not None
    (axes,) = (axes for axes in drawing.figure.axes if axes.get_visible())
    points = {str(line.get_marker()): np.asarray(line.get_xdata()) for line in axes.lines}
    assert {m: x.tolist() for m, x in points.items() if x.size == 1} == expected
    curve = next(line for line in axes.lines if np.asarray(line.get_xdata()).size == 3)
    assert np.asarray(curve.get_xdata()).tolist() == [0.01, 0.02, 0.04], "none for the lost one"


def test_importing_loads_neither_matplotlib_nor_mlflow_and_drawing_no_pyplot() -> None:
    code = (
        "import sys, harness.report, harness.tracking; "
        "assert not {'matplotlib', 'mlflow'} & set(sys.modules); "
        "import harness.report.figures; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_router_load_of_seeds_is_sorted_before_it_is_averaged(made_up_study: Write) -> None:
    view = load_results(made_up_study())
    load = final_router_load(view, "muon")
    assert load is not None
    assert load.shape == (4, 8)
    assert (np.diff(load, axis=1) <= 0).all()
    np.testing.assert_allclose(load.sum(axis=1), 1.0)
    last = [trial.last for trial in view.of("muon")]
    largest = [max(report.router_load[0]) for report in last if report is not None]
    assert load[0, 0] == pytest.approx(np.mean(largest))


@pytest.mark.parametrize("decades", [1.0, 1.9, 2.4, 4.0])
def test_the_labels_of_a_searched_rate_do_not_touch(decades: float) -> None:
    """In one of three panels beside each other, which is as narrow as they get."""
    figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3)[0]
    rates = [0.0002 * 10 ** (decades * i / 7) for i in range(8)]
    axes.plot(rates, rates)
    _scale(axes, rates)
    axes.tick_params(labelsize=8)
    canvas.draw()
    low, high = axes.get_xlim()
    boxes = [
        label.get_window_extent()
        for value, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        if low <= value <= high
    ]
    assert boxes
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
