"""The forest: every label whole, small differences visible, what lies beyond written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from matplotlib.text import Text

from harness.analysis.results import Comparison
from harness.analysis.stats.intervals import Interval
from harness.analysis.study_analysis import analyse_study
from harness.report.figures.canvas import Drawing, lay_out, style
from harness.report.figures.forest import forest, shown_range
from harness.report.figures.seeds import seed_strip
from harness.runs.folder import StudyFolder

Write = Callable[..., StudyFolder]
LONG = "muon-with-a-learning-rate-of-0.02-and-momentum-0.95-and-five-steps-of-newton-schulz"


def comparisons(folder: StudyFolder) -> dict[str, Comparison]:
    return {comparison.variant: comparison for comparison in analyse_study(folder).comparisons}


def texts(drawing: Drawing) -> list[Text]:
    """Every text that is seen."""
    found = drawing.figure.findobj(Text)
    return [text for text in found if isinstance(text, Text) and text.get_text().strip()]


def test_no_label_is_cut_however_long_the_names(made_up_study: Write) -> None:
    folder = made_up_study(
        variants={
            "adamw": {"kind": "adamw", "lr": 0.004},
            LONG: {"kind": "muon", "lr": 0.02, "aux_lr": 0.004},
            LONG.replace("-", "_"): {"kind": "muon", "lr": 0.01, "aux_lr": 0.004},
        },
        effects={LONG: -0.05, LONG.replace("-", "_"): 1.3},
        analysis={"margin_nats": 0.02},
        every=60,
    )
    results = analyse_study(folder)
    with style():
        drawing = forest(results)
        assert drawing is not None
        lay_out(drawing.figure)
        renderer = drawing.figure.canvas.get_renderer()  # type: ignore[attr-defined]
        width, height = drawing.figure.bbox.size
        written = texts(drawing)
        for text in written:
            box = text.get_window_extent(renderer)
            assert box.x0 >= 0, text.get_text()
            assert box.x1 <= width, text.get_text()
            assert box.y0 >= -1, text.get_text()
            assert box.y1 <= height + 1, text.get_text()
        (axes,) = drawing.figure.axes
        assert axes.bbox.width / drawing.figure.dpi > 2.5, "room for the intervals"
    labels = [text.get_text() for text in written]
    assert any("better by the margin" in label for label in labels)
    assert any("".join(label.split("\n")) == LONG for label in labels)


def test_an_outlier_is_an_arrow_with_its_value(made_up_study: Write) -> None:
    variants = {"adamw": {"kind": "adamw", "lr": 0.004}} | {
        name: {"kind": "muon", "lr": 0.02, "aux_lr": 0.001 * index}
        for index, name in enumerate(("good", "alike", "terrible"), start=1)
    }
    folder = made_up_study(
        variants=variants,
        effects={"good": -0.02, "terrible": 1.4},
        every=60,
        analysis={"margin_nats": 0.01},
    )
    results = analyse_study(folder)
    low, high = shown_range(results.comparisons, margin=0.01)
    assert -0.1 < low < -0.02
    assert 0.01 < high < 0.1, "the terrible one does not decide the scale"
    with style():
        drawing = forest(results)
    assert drawing is not None
    (axes,) = drawing.figure.axes
    assert axes.get_xlim() == (low, high)
    arrows = [line for line in axes.lines if line.get_marker() == ">"]
    assert [float(np.asarray(line.get_xdata())[0]) for line in arrows] == [high]
    assert any(text.get_text().startswith("+1.") for text in texts(drawing))
    assert "An arrow at the border" in drawing.caption
    with style():
        strip = seed_strip(results)
    assert strip is not None
    assert "An arrow at the right edge" in strip.caption


def test_without_an_outlier_the_scale_holds_every_interval(made_up_study: Write) -> None:
    (only,) = comparisons(made_up_study(every=60)).values()
    assert only.interval is not None
    low, high = shown_range([only], margin=None)
    assert low < only.interval.low
    assert high > 0.0
    twin = replace(only, variant="twin", mean_difference=0.0, interval=None)
    assert shown_range([only, twin], margin=None) == (low, high)
    ranked = replace(only, mean_difference=None, interval=None)
    assert shown_range([ranked], margin=None) == (-0.01, 0.01)


def test_an_end_of_an_interval_beyond_the_border_is_written(made_up_study: Write) -> None:
    (only,) = comparisons(made_up_study(every=60)).values()
    wide = replace(only, mean_difference=0.01, interval=Interval(low=-0.9, high=0.92, level=0.95))
    low, high = shown_range([only, only, wide], margin=None)
    assert low > -0.9
    assert high < 0.92


def test_beside_each_verdict_stand_its_p_the_exact_p_and_whether_it_is_fragile(
    made_up_study: Write,
) -> None:
    with style():
        few = forest(analyse_study(made_up_study(every=60)))
        more = forest(analyse_study(made_up_study(name="more", seeds=tuple(range(8)), every=60)))
    assert few is not None
    assert more is not None
    label = next(text.get_text() for text in texts(few) if "better" in text.get_text())
    assert label.endswith("(exact 0.0625), fragile")
    assert "Fragile" in few.caption
    assert not any("fragile" in text.get_text() for text in texts(more))
    assert "95 %" in few.caption
