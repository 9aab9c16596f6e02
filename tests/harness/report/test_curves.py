"""Curves that lie on each other are all seen; figures follow the reader's colours."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from harness.analysis.study_analysis import analyse_study
from harness.report.figures import draw_all
from harness.report.figures.canvas import style
from harness.report.figures.coincidence import Share, shares
from harness.report.figures.losses import difference_curves, loss_curves
from harness.report.figures.theme import DARK, themed
from harness.runs.folder import StudyFolder

Write = Callable[..., StudyFolder]
SAME = {"kind": "adamw", "lr": 0.004}
TWINS = {"adamw": SAME, "again": SAME, "muon": {"kind": "muon", "lr": 0.02, "aux_lr": 0.004}}


def test_curves_closer_than_a_line_share_it() -> None:
    curves = {
        "one": [3.0, 2.0, 1.0],
        "near": [3.001, 2.001, 0.999],
        "other": [3.0, 2.0, 1.4],
        "short": [3.0, 2.0],
        "same": [3.0, 2.0, 1.0],
    }
    assert shares(curves, height=1.0) == {
        "one": Share(index=0, of=3),
        "near": Share(index=1, of=3),
        "same": Share(index=2, of=3),
        "other": Share(),
        "short": Share(),
    }


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_dashes_on_a_line_leave_room_for_each_other(count: int) -> None:
    own = [Share(index=index, of=count) for index in range(count)]
    assert own[0].line_style == "-"
    drawn: list[set[int]] = []
    for share in own[1:]:
        assert isinstance(share.line_style, tuple)
        offset, (on, off) = share.line_style
        # A pattern that begins `offset` points into itself.
        drawn.append({x for x in range(200) if (x + offset) % (on + off) < on})
    covered = set().union(*drawn)
    assert sum(map(len, drawn)) == len(covered), "no two dashes on one place"
    assert len(covered) < 200, "the whole line below is seen between them"
    first, *_ = (share.markers(40) for share in own)
    assert len({share.markers(40)[0] for share in own}) == count
    assert all(share.markers(40)[1] == first[1] for share in own)


def test_a_twin_of_the_baseline_is_seen_on_it(made_up_study: Write) -> None:
    results = analyse_study(made_up_study(variants=TWINS))
    with style():
        losses, differences = loss_curves(results), difference_curves(results)
    for drawing, dashed in ((losses, "again"), (differences, "again")):
        assert drawing is not None
        (axes,) = drawing.figure.axes
        styles = {str(line.get_label()).split(" (")[0]: line.get_linestyle() for line in axes.lines}
        assert styles[dashed] == "--", "matplotlib's word for any pattern"
        assert styles["muon"] == "-"
        assert "the others are dashes on it" in drawing.caption


def test_curves_apart_are_whole(made_up_study: Write) -> None:
    with style():
        drawing = difference_curves(analyse_study(made_up_study()))
    assert drawing is not None
    assert "dashes" not in drawing.caption


def test_a_figure_has_its_colours_for_day_and_night(made_up_study: Write) -> None:
    images = draw_all(analyse_study(made_up_study(seeds=(0, 1, 2), every=60)))
    for image in images.values():
        svg = image.svg.decode()
        used = set(re.findall(r"var\(--c([0-9a-f]{6})\)", svg))
        day, night = re.findall(r":root\{(.*?)\}", svg)
        assert set(re.findall(r"--c([0-9a-f]{6}):", day)) == used
        for colour in used:
            assert f"--c{colour}:#{colour};" in day
            assert f"--c{colour}:{DARK[f'#{colour}']};" in night
        assert {"ffffff", "222222"} <= used, "paper and text"
        assert not re.search(r": #(ffffff|222222)\b", svg), "nothing keeps the light colours"
        assert "script" not in svg
        assert "http" not in re.sub(
            r"xmlns\S*|<metadata>.*?</metadata>|<!DOCTYPE.*?>", "", svg, flags=re.DOTALL
        )


def test_a_colour_that_is_data_stays() -> None:
    before = b'<style type="text/css">*{}</style><path style="fill: #00224e; stroke: #ffffff"/>'
    after = themed(before)
    assert b"fill: #00224e" in after
    assert b"stroke: var(--cffffff)" in after
