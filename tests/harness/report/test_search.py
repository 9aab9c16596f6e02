"""What the page says of a search: the choice, its luck, its price, and what was not tuned."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import numpy as np
import pytest
from rich.console import Console

from harness.analysis.shrinkage import losses_of_search, not_tuned, shrinkages
from harness.analysis.study_analysis import analyse_study, results_rows, why_no_analysis
from harness.analysis.study_results import load_results
from harness.report.figures.canvas import style
from harness.report.figures.heatmap import heatmap
from harness.report.figures.sensitivity import sensitivity
from harness.report.figures.tuning import tuning_curves
from harness.report.html import write_html
from harness.report.tables import chosen, ledger, search_failures
from harness.report.terminal.search import render_search
from harness.report.terminal.study import render_study
from harness.report.write import gather, write_report
from harness.runs.folder import StudyFolder
from harness.runs.snapshot import load_snapshot

Write = Callable[..., StudyFolder]
NARROW = {
    "adamw": {"lr": {"kind": "grid", "values": [0.0005, 0.001, 0.002]}},
    "muon": {"lr": {"kind": "grid", "values": [0.005, 0.02, 0.08]}},
}
GRID = {
    "adamw": {
        "lr": {"kind": "grid", "values": [0.002, 0.004, 0.05]},
        "weight_decay": {"kind": "grid", "values": [0.0, 0.1], "limits": ["low"]},
    },
    "muon": {
        "lr": {"kind": "grid", "values": [0.01, 0.02, 0.3]},
        "momentum": {"kind": "grid", "values": [0.9, 0.95]},
    },
}


def text_of(folder: StudyFolder) -> str:
    return write_html(gather(analyse_study(folder), draw=lambda view: {}))


def test_only_confirmation_seeds_measure(made_up_search: Write) -> None:
    folder = made_up_search()
    view = load_results(folder)
    assert view.seeds == (0, 1, 2, 3, 4)
    assert {row.seed for row in results_rows(load_snapshot(folder))} == set(view.seeds)


def test_shrinkage_is_the_tuning_score_minus_the_confirmation_mean(made_up_search: Write) -> None:
    view = load_results(made_up_search())
    assert view.search is not None
    for item in shrinkages(view):
        found = view.search.variants[item.variant].chosen
        assert found is not None
        assert found.score is not None
        mean = np.mean(list(view.losses(item.variant).values()))
        assert item.shrinkage == pytest.approx(found.score - mean)


def test_shorter_runs_of_the_search_have_no_shrinkage(made_up_search: Write) -> None:
    view = load_results(made_up_search(tuning={"trials": 3, "steps": 60}))
    assert {item.shrinkage for item in shrinkages(view)} == {None}
    table = chosen(view)
    assert table is not None
    assert any("the runs of the search were shorter" in row[-1] for row in table.rows)


def test_an_edge_is_a_warning_in_the_verdict_and_a_mark_in_every_table(
    made_up_search: Write,
) -> None:
    tuning = {"trials": 3, "searcher": "grid", "sigma": 0.002}
    folder = made_up_search(spaces=NARROW, tuning=tuning)
    analyse_study(folder)
    view = load_results(folder)
    assert "is at the high edge of {0.0005, 0.001, 0.002}" in (not_tuned(view, "adamw") or "")
    assert not_tuned(view, "muon") is None
    text = text_of(folder)
    assert text.index("adamw is not tuned: lr = ") < text.index(">Results</h2>")
    assert ">baseline, not tuned<" in text
    assert ">better<" in text
    console = Console(width=100)
    with console.capture() as capture:
        console.print(render_study(analyse_study(folder)))
    assert "adamw is not tuned" in capture.get()


def test_a_study_that_searches_nothing_marks_nothing(made_up_study: Write) -> None:
    folder = made_up_study()
    view = load_results(folder)
    assert view.search is None
    assert not_tuned(view, "muon") is None
    assert (chosen(view), shrinkages(view), losses_of_search(view)) == (None, (), {})
    assert "not tuned" not in text_of(folder)


def test_a_lost_configuration_counts_as_the_worst(made_up_search: Write) -> None:
    view = load_results(made_up_search(spaces=GRID, tuning={"trials": 6, "searcher": "grid"}))
    losses = losses_of_search(view)
    assert {name: len(values) for name, values in losses.items()} == {"adamw": 6, "muon": 6}
    worst = max(value for values in losses.values() for value in values)
    # The highest rate of both diverges, with both values of the other setting.
    assert all(values.count(worst) >= 2 for values in losses.values())


def test_the_ledger_counts_the_other_lengths_of_the_baseline(made_up_study: Write) -> None:
    folder = made_up_study(seeds=(0, 1, 2), steps=60, analysis={"horizons": [30, 120, 240]})
    table = ledger(analyse_study(folder))
    assert table is not None
    found = {(row[0], row[1]): row[3] for row in table.rows}
    assert found["adamw", "horizon"] == "9"
    assert found["adamw", "confirmation"] == found["muon", "confirmation"] == "3"
    assert ("muon", "horizon") not in found


def test_the_ledger_counts_what_was_lost(made_up_search: Write) -> None:
    view = load_results(made_up_search(spaces=GRID, tuning={"trials": 6, "searcher": "grid"}))
    table = ledger(view)
    assert table is not None
    rows = {(row[0], row[1]): row[2:6] for row in table.rows}
    assert rows["muon", "search"] == ("6", "12", "8", "4")
    assert rows["muon", "confirmation"] == ("1", "5", "5", "0")
    lost = search_failures(view)
    assert lost is not None
    assert len(lost.rows) == 8
    assert lost.rows[-4][:4] == ("muon", "lr 0.3, momentum 0.9", "100", "diverged")


def test_every_figure_of_a_search_is_drawn(made_up_search: Write) -> None:
    folder = made_up_search(spaces=GRID, tuning={"trials": 6, "searcher": "grid"}, every=60)
    view = load_results(folder)
    with style():
        drawn = [draw(view) for draw in (sensitivity, heatmap, tuning_curves)]
    assert None not in drawn
    panels = [len(drawing.figure.axes) for drawing in drawn if drawing]
    assert panels == [2, 2, 1], "a panel for each variant, one picture for all curves"


def test_points_of_a_random_search_are_a_map_of_points(made_up_search: Write) -> None:
    view = load_results(made_up_search(every=60))
    with style():
        drawing = heatmap(view)
        rates = sensitivity(view)
    assert drawing is not None
    assert drawing.figure.axes[0].get_title(loc="left") == "muon", "adamw has one setting only"
    assert rates is not None
    titles = [axes.get_title(loc="left") for axes in rates.figure.axes if axes.get_visible()]
    assert titles == ["adamw: lr", "muon: lr", "muon: aux_lr"]


def test_a_search_under_way_has_a_page_without_results(made_up_search: Write) -> None:
    folder = made_up_search(unchosen=True)
    view = load_results(folder)
    assert not view.complete
    assert "The search is not over (16 configurations have ended)" in (why_no_analysis(view) or "")
    text = text_of(folder)
    assert ">Results</h2>" not in text
    assert "Chosen by the search" in text


def test_the_importance_of_settings_stands_in_the_report_the_terminal_and_a_file(
    made_up_search: Write,
) -> None:
    folder = made_up_search(tuning={"trials": 16}, tuning_seeds=(100,))
    results = analyse_study(folder)
    page = text_of(folder)
    assert "Importance of the settings" in page
    assert "aux_lr" in page.rsplit("Importance of the settings", 1)[1]
    assert "(Watanabe et al., 2023)" in page
    write_report(results)
    written = json.loads((folder.report_folder / "importance.json").read_text())
    assert written["muon"]["settings"]["lr"]["importance"] > 0.5
    assert "adamw" not in written, "it searched one setting"
    assert results.search is not None
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render_search(results.search))
    assert "importance of its settings beyond chance: lr" in console.export_text()


def test_a_search_that_is_too_small_has_no_table_of_importances(made_up_search: Write) -> None:
    assert "Importance of the settings" not in text_of(made_up_search())
