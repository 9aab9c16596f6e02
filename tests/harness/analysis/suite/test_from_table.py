"""`optbench suite score`: any table of several tasks, and its mistakes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.suite.from_table import score_file
from harness.cli.main import main
from harness.errors import UserError

SPEEDUPS = {"adamw": 1.0, "muon": 1.5, "lion": 1.05}
COLUMNS = (
    "task",
    "variant",
    "seed",
    "value",
    "outcome",
    "steps_to_target",
    "size",
    "tokens",
    "unit",
)


def rows(*, sizes=(1e6, 2e6, 4e6)) -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    made = []
    for i, size in enumerate(sizes):
        for seed in range(5):
            luck = 0.03 * rng.normal()
            for variant, speedup in SPEEDUPS.items():
                loss = 3.0 + luck - 0.1 * np.log(speedup) + 0.002 * rng.normal()
                cost = 1000.0 / (speedup * 0.95 ** (i * (variant == "muon")))
                made.append(
                    {
                        "task": f"s{i}",
                        "variant": variant,
                        "seed": seed,
                        "value": f"{loss:.5f}",
                        "outcome": "completed",
                        "steps_to_target": f"{cost * np.exp(0.01 * rng.normal()):.2f}",
                        "size": size,
                        "tokens": 1e9,
                        "unit": "nats",
                    }
                )
    return made


def write(path: Path, table, columns=COLUMNS) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(table)
    return path


def score(path: Path, **more):
    return score_file(path, **{"baseline": "adamw", "pairing": "paired", "resamples": 200, **more})


def test_a_table_of_several_tasks_is_scored(tmp_path: Path) -> None:
    analysis = score(write(tmp_path / "t.csv", rows()), larger={"size": 1e9})
    assert analysis.name == "t"
    assert analysis.measure_in_words == "steps to the target"
    assert [row.variant for row in analysis.leaderboard] == ["muon", "lion", "adamw"]
    muon = analysis.standing("muon")
    assert (muon.better, muon.reached, muon.tasks) == (3, 3, 3)
    verdict = analysis.result("s0", "lion")
    assert verdict.interval is not None
    assert verdict.interval.level == pytest.approx(1 - 0.05 / 6)
    (scaling,) = (s for s in analysis.speedups if s.variant == "muon")
    assert scaling.fit is not None
    assert scaling.fit.per_doubling["size"].value == pytest.approx(0.95, abs=0.02)
    assert scaling.fit.predictions[0].factor == 250.0


def test_a_run_that_never_arrived_is_an_empty_cell(tmp_path: Path) -> None:
    table = rows()
    for row in table:
        if row["task"] == "s0" and row["variant"] == "lion":
            row["steps_to_target"] = ""
            if row["seed"] == 0:
                row |= {"value": "", "outcome": "diverged"}
    analysis = score(write(tmp_path / "t.csv", table))
    lion = analysis.standing("lion")
    assert (lion.reached, lion.lost, lion.diverged) == (2, 1, 1)
    speedup = analysis.result("s0", "lion").speedup
    assert speedup is not None
    assert speedup.why_not == "5 run(s) never arrived"


def test_a_run_that_broke_off_may_say_how_many_tokens_it_came_to(tmp_path: Path) -> None:
    table = rows()
    table[0] |= {"value": "", "outcome": "diverged", "steps_to_target": "", "tokens": 1e7}
    analysis = score(write(tmp_path / "t.csv", table))
    assert analysis.tasks[0].tokens == 1e9


def test_without_costs_and_sizes_it_still_ranks(tmp_path: Path) -> None:
    analysis = score(write(tmp_path / "t.csv", rows(), (*COLUMNS[:4], "tokens_total")))
    assert analysis.ordered_by == "mean rank"
    assert analysis.leaderboard[0].variant == "muon"
    assert all(scaling.fit is None for scaling in analysis.speedups)


def without(table, **cells):
    return [row for row in table if any(row[key] != value for key, value in cells.items())]


def changed(table, index: int, **cells):
    return [{**row, **cells} if i == index else row for i, row in enumerate(table)]


@pytest.mark.parametrize(
    ("table", "columns", "message"),
    [
        (rows(), COLUMNS[1:], "no column 'task'"),
        (rows(sizes=(1e6,)), COLUMNS, "has one task"),
        (without(rows(), task="s1", variant="lion"), COLUMNS, "task 's1' has no rows of lion"),
        (without(rows(), task="s1", variant="lion", seed=2), COLUMNS, "task 's1': the table has h"),
        (changed(rows(), 3, size=7), COLUMNS, "several values in the column 'size'"),
        (
            changed(rows(), 3, steps_to_target="-4"),
            COLUMNS,
            "line 5: steps_to_target '-4' is not a",
        ),
        (changed(rows(), 3, tokens="many"), COLUMNS, "line 5: tokens 'many' is not a positive"),
        (changed(rows(), 3, value="", outcome="diverged"), COLUMNS, "yet it has a steps_to_target"),
        (changed(rows(), 3, value="x"), COLUMNS, "line 5: value 'x' is not a number"),
        (changed(rows(), 3, task=""), COLUMNS, "line 5: the task is empty"),
        ([*rows(), rows()[4]], COLUMNS, "is already in line 6"),
        (rows(), (*COLUMNS, "seconds_to_target"), "keep one of them"),
        (rows(), (*COLUMNS[:4], "Step to target"), "did you mean 'steps_to_target'?"),
        ([], COLUMNS, "has no results to score"),
        ([], (*COLUMNS[:5], "step_to_target"), "did you mean 'steps_to_target'?"),
        ([], ("Task", *COLUMNS[1:]), "did you mean 'task'?"),
    ],
)
def test_a_mistake_is_one_clear_error(tmp_path: Path, table, columns, message) -> None:
    path = write(tmp_path / "t.csv", table, columns)
    with pytest.raises(UserError, match=r"t\.csv|task") as caught:
        score(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": None}, "--baseline is missing: choose one of adamw, muon, lion"),
        ({"baseline": "sgd"}, "'sgd' has no results"),
        ({"alpha": 0.7}, "alpha"),
        ({"resamples": 3}, "resamples"),
        ({"largest_ratio": 1.0}, "largest_ratio"),
        ({"margin": -1.0}, "margin"),
        ({"larger": {"size": -1.0}}, "--at-size"),
    ],
)
def test_a_wrong_option_is_one_clear_error(tmp_path: Path, options, message) -> None:
    with pytest.raises(UserError) as caught:
        score(write(tmp_path / "t.csv", rows()), **options)
    assert message in str(caught.value)


def test_the_command_prints_a_leaderboard_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "t.csv", rows())

    def optbench(*options: str) -> tuple[object, str, str]:
        arguments = ["optbench", "suite", "score", str(path), "--paired", *options]
        monkeypatch.setattr("sys.argv", arguments)
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    _, shown, _ = optbench("--baseline", "adamw")
    assert "muon is better than adamw on 3 of 3 tasks, worse on none" in " ".join(shown.split())
    assert "area under the performance profile of steps to the target" in shown
    assert "Extrapolation" not in shown
    beyond = " ".join(optbench("--baseline", "adamw", "--at-size", "1e9")[1].split())
    assert "muon: Extrapolation, not a measurement: speed-up" in beyond
    assert "at 1e+09 active parameters, 250 times beyond the largest task" in beyond
    nowhere = " ".join(optbench("--baseline", "adamw", "--at-tokens", "1e12")[1].split())
    assert "muon: no line over training tokens is fitted" in nowhere
    values = json.loads(optbench("--baseline", "adamw", "--json")[1])
    assert values["leaderboard"][0]["variant"] == "muon"
    code, _, wrong = optbench()
    assert code == 2
    assert wrong.startswith("error: --baseline is missing")
    assert "contradict" in optbench("--unpaired")[2]
    assert "contradict" in optbench("--pairing", "unpaired")[2]
