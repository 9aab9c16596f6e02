"""A suite in a terminal: the leaderboard first, every task, and nothing wider than the window."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from made_up_suite import NAMES, made_up_suite

from harness.analysis.suite.results import SuiteAnalysis
from harness.report.terminal.console import PlainConsole
from harness.report.terminal.suite import render_suite


def shown(analysis: SuiteAnalysis, *, width: int) -> str:
    console = PlainConsole(width=width, file=io.StringIO(), record=True)
    console.print(render_suite(analysis))
    return console.export_text()


@pytest.mark.parametrize("width", [120, 80, 50, 30])
@pytest.mark.parametrize("count", [2, 10])
def test_every_contestant_and_task_is_seen_in_every_width(width: int, count: int) -> None:
    analysis = made_up_suite(contestants=NAMES[:count])
    text = shown(analysis, width=width)
    assert max(map(len, text.splitlines())) <= width
    board, verdicts = text.split("Verdicts against adamw")
    assert all(name in board for name in analysis.variants)
    assert all(task.task in verdicts for task in analysis.tasks)


def test_the_leaderboard_is_a_table_in_eighty_columns() -> None:
    _, *lines = shown(made_up_suite(), width=80).splitlines()
    row = next(line for line in lines if line.strip().startswith("muon "))
    assert "1.00 [0.97, 1.00]" in row
    assert row.rstrip().endswith("6 0 0 0")


def test_lost_runs_and_open_tasks_are_told() -> None:
    text = " ".join(shown(made_up_suite(open_task=True), width=80).split())
    assert "large-long is not decided: 3 of 5 seeds are finished" in text
    assert "crash lost runs: 5 failed of 25, on 1 task: small-short (5 failed of 5)." in text


def test_what_weakens_a_line_is_told_once_with_it() -> None:
    analysis = made_up_suite(contestants=NAMES[:2])
    noted = tuple(replace(item, note="read inside runs") for item in analysis.speedups)
    text = " ".join(shown(replace(analysis, speedups=noted), width=80).split())
    assert text.count("read inside runs") == 1
    assert "speed-ups of muon, soap: read inside runs" in text


def test_the_signs_are_explained_in_one_line_however_narrow_the_table() -> None:
    lines = shown(made_up_suite(contestants=NAMES[:1]), width=80).splitlines()
    assert "Verdicts against adamw: ▼ better, ▲ worse, = equivalent, ? inconclusive" in [
        line.rstrip() for line in lines
    ]
