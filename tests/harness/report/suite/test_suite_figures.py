"""The figures of a suite: nothing is drawn over, and what is extrapolated is called so."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_suite import NAMES, made_up_suite
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from harness.analysis.suite.results import Estimate
from harness.report.figures.canvas import style
from harness.report.suite.figures import FIGURES
from harness.report.suite.figures.labels import spread
from harness.report.suite.figures.leaderboard import leaderboard
from harness.report.suite.figures.profiles import profiles
from harness.report.suite.figures.ranks import ranks
from harness.report.suite.figures.scaling import hyperparameters, speedup_by_size
from harness.report.suite.figures.verdicts import verdicts

MANY = (*NAMES, "eleventh")
"""With the baseline: as many contestants as a picture must hold."""


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


@given(
    wanted=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12),
    gap=st.floats(0.01, 0.2),
)
@settings(max_examples=100, deadline=None)
def test_names_keep_their_order_their_distance_and_the_room(
    wanted: list[float], gap: float
) -> None:
    places = spread(wanted, gap=gap, low=0.0, high=1.0)
    apart = min(gap, 1.0 / max(1, len(wanted) - 1))
    ordered = sorted(places)
    assert all(right - left >= apart - 1e-9 for left, right in pairwise(ordered))
    assert ordered[0] >= -1e-9
    assert ordered[-1] <= 1.0 + 1e-9
    by_wish = [place for _, place in sorted(zip(wanted, places, strict=True))]
    assert by_wish == sorted(by_wish)


def test_a_name_with_room_stands_where_its_line_ends() -> None:
    assert spread([0.2, 0.8], gap=0.1, low=0.0, high=1.0) == pytest.approx([0.2, 0.8])


@pytest.mark.parametrize("draw", [leaderboard, profiles, ranks, verdicts])
def test_a_dozen_contestants_are_all_named_in_the_picture(draw: object) -> None:
    analysis = made_up_suite(contestants=MANY)
    with style():
        drawing = draw(analysis)  # type: ignore[operator]
        drawing.figure.draw_without_rendering()
    found = " ".join(words(drawing.figure))
    named = MANY if draw is verdicts else ("adamw", *MANY)
    assert all(name in found for name in named)


def test_the_names_beside_the_profiles_do_not_touch() -> None:
    with style():
        drawing = profiles(made_up_suite(contestants=MANY))
        assert drawing is not None
        drawing.figure.draw_without_rendering()
        named = [t for t in drawing.figure.findobj(Text) if t.get_text() in ("adamw", *MANY)]
        # Of the words alone: an annotation's own extent holds its line too.
        boxes = sorted((Text.get_window_extent(t) for t in named), key=lambda box: box.y0)
    assert len(boxes) == 12
    assert all(below.y1 <= above.y0 + 1.0 for below, above in pairwise(boxes))


def test_what_lies_beyond_the_largest_task_is_called_extrapolated() -> None:
    with style():
        drawing = speedup_by_size(made_up_suite())
    assert drawing is not None
    assert words(drawing.figure).count("extrapolated") == 5
    assert "Nothing was trained there" in drawing.caption
    assert "4 times of it" in drawing.caption


def test_without_a_fit_the_reason_stands_in_the_picture() -> None:
    with style():
        drawing = speedup_by_size(made_up_suite(lengths=("short",)))
    assert drawing is not None
    assert any("too few" in word for word in words(drawing.figure))
    assert "extrapolated" not in words(drawing.figure)


def test_an_open_mark_is_a_value_at_the_edge_of_its_space() -> None:
    with style():
        drawing = hyperparameters(made_up_suite())
    assert drawing is not None
    panels = [axes for axes in drawing.figure.axes if axes.get_title(loc="left") == "muon: lr"]
    hollow = [line for line in panels[0].lines if line.get_markerfacecolor() == "white"]
    assert len(hollow) == 2, "the task that is not tuned, and the extrapolation"


def test_without_costs_nothing_is_drawn_that_needs_them() -> None:
    analysis = made_up_suite(costs=False)
    with style():
        drawn = {name for name, (_, draw) in FIGURES.items() if draw(analysis) is not None}
    assert drawn == {"leaderboard", "verdicts", "ranks", "hyperparameters"}


def test_an_open_end_is_an_arrow_and_a_value_that_never_varied_has_none() -> None:
    analysis = made_up_suite()
    ends = [(None, 1.5, False), (1.1, None, False), (None, None, True), (None, None, False)]
    values = [
        Estimate(value=1.3, low=low, high=high, level=0.95, unbounded=unbounded)
        for low, high, unbounded in ends
    ]
    challengers = [row for row in analysis.leaderboard if not row.is_baseline][: len(ends)]
    rows = tuple(
        replace(row, iqm_speedup=value) for row, value in zip(challengers, values, strict=True)
    )
    with style():
        drawing = leaderboard(replace(analysis, leaderboard=rows))
    assert drawing is not None
    arrows = [
        (note.xyann[1], note.xy[0])
        for note in drawing.figure.findobj(Annotation)
        if note.arrow_patch is not None
    ]
    assert arrows == [(0, 0.0), (1, 1.0), (2, 0.0), (2, 1.0)]
