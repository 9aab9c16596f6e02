"""Logs of several runs: whose they are, how they ended, and the verdicts over them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.from_csv import compare_file
from harness.analysis.logs.ends import LogRun, ended_runs
from harness.analysis.logs.formats import FORMATS
from harness.analysis.logs.from_logs import compare_logs, curves_csv, read_runs, table_csv
from harness.analysis.logs.naming import NamedLog
from harness.analysis.logs.reading import Log, Point
from harness.errors import UserError

FORM = FORMATS["nanogpt"]
BY_PATH = r"logs/(?P<variant>[^/]+)/seed(?P<seed>\d+)"

WriteLog = Callable[..., Path]


def runs_of(folder: Path, **options: Any) -> list[LogRun]:
    options = {"path_pattern": BY_PATH, **options}
    return read_runs([f"{folder}/**/*.txt"], FORM, **options)


def outcomes(runs: Sequence[LogRun]) -> dict[tuple[str, int], str]:
    return {(run.row.variant, run.row.seed): run.row.outcome for run in runs}


def test_the_table_that_was_read_gives_the_same_verdicts(ten_logs: Path, tmp_path: Path) -> None:
    runs = runs_of(ten_logs)
    options: dict[str, Any] = {"baseline": "adamw", "margin": 0.05, "target": 2.95}
    read = compare_logs(runs, FORM, **options)
    (table := tmp_path / "table.csv").write_text(table_csv(runs))
    again = compare_file(table, **options)
    assert read.analysis.comparisons == again.comparisons
    assert read.analysis.targets == again.targets
    assert read.analysis.comparisons[0].verdict == "better by the margin"


def test_variants_are_named_and_seeds_are_numbered_apart(ten_logs: Path) -> None:
    sources = [f"adamw={ten_logs}/adamw/*.txt", f"muon={ten_logs}/muon/*.txt"]
    runs = read_runs(sources, FORM)
    assert [run.row.seed for run in runs] == list(range(10))
    assert {run.row.variant for run in runs[:5]} == {"adamw"}
    with pytest.raises(UserError, match="needs the seed of each run"):
        compare_logs(runs, FORM, baseline="adamw", pairing="paired")
    assert not compare_logs(runs, FORM, baseline="adamw").analysis.comparisons[0].paired


def test_equal_seeds_are_pairs_only_if_the_user_says_so(ten_logs: Path) -> None:
    runs = runs_of(ten_logs)
    (alone,) = compare_logs(runs, FORM, baseline="adamw").analysis.comparisons
    (told,) = compare_logs(runs, FORM, baseline="adamw", pairing="paired").analysis.comparisons
    assert (alone.paired, told.paired, told.pairing_certified) == (False, True, False)


def test_a_diverged_run_and_one_without_an_end_stay_in_the_table(
    ten_logs: Path, write_log: WriteLog
) -> None:
    write_log("muon", 2, ["4.0", "nan", "nan"])
    write_log("muon", 4, ["4.0", "3.1"])
    runs = runs_of(ten_logs)
    assert outcomes(runs)["muon", 2] == "diverged"
    assert outcomes(runs)["muon", 4] == "failed"
    (diverged,) = [run.row for run in runs if run.row.diverged]
    assert diverged.diverged_at_step == 200
    analysis = compare_logs(runs, FORM, baseline="adamw").analysis
    assert analysis.comparisons[0].mean_difference is None
    assert any("seed 4" in note and "counts as failed" in note for note in analysis.notes)
    assert any("seed 2" in note and "no number from 200" in note for note in analysis.notes)


def test_the_end_that_a_line_names_is_the_end_that_a_run_must_reach(tmp_path: Path) -> None:
    for seed in range(3):
        for variant, last in (("a", 100), ("b", 50)):
            text = f"step:50/100 val_loss:3.{seed}1\nstep:{last}/100 val_loss:3.{seed}\n"
            (tmp_path / f"{variant}{seed}.txt").write_text(text)
    sources = [f"{variant}={tmp_path}/{variant}*.txt" for variant in "ab"]
    form = FORMATS["modded-nanogpt"]
    runs = read_runs(sources, form)
    assert [run.row.outcome for run in runs] == ["completed"] * 3 + ["failed"] * 3
    assert {run.row.value for run in read_runs(sources, form, steps=50)[:3]} == {3.01, 3.11, 3.21}


def test_runs_of_unequal_length_are_refused_unless_that_is_meant(
    ten_logs: Path, write_log: WriteLog
) -> None:
    for seed in range(5):
        write_log("muon", seed, ["4.0", "3.1", f"2.9{seed}"])
    with pytest.raises(UserError, match=r"(?s)equally long.*300: 5 run.*muon.*400: 5 run.*adamw"):
        runs_of(ten_logs)
    assert all(run.row.completed for run in runs_of(ten_logs, unequal_steps=True))
    at_300 = runs_of(ten_logs, steps=300)
    assert {run.row.value for run in at_300 if run.row.variant == "adamw"} >= {3.1, 3.11}
    analysis = compare_logs(at_300, FORM, steps=300, baseline="adamw").analysis
    assert any("went on after step 300" in note for note in analysis.notes)
    with pytest.raises(UserError, match="no loss at this step: the nearest are 200 and 300"):
        runs_of(ten_logs, steps=250)


@pytest.mark.parametrize("steps", [float("nan"), float("inf"), -1.0])
def test_steps_that_are_no_number_of_steps_are_refused(ten_logs: Path, steps: float) -> None:
    with pytest.raises(UserError, match="must be a number of steps"):
        runs_of(ten_logs, steps=steps)


def test_a_run_that_went_on_and_has_no_loss_at_the_step_did_not_fail_there(
    ten_logs: Path, write_log: WriteLog
) -> None:
    for seed in range(5):
        write_log("adamw", seed, [f"4.{seed}", f"3.1{seed}", "3.0"], every=50)
    with pytest.raises(UserError, match=r"5 of 10 logs, such as .*muon.*have no loss at this step"):
        runs_of(ten_logs, steps=50)


def test_a_run_that_went_on_after_what_was_planned_is_no_shorter_one(tmp_path: Path) -> None:
    for seed in range(3):
        for variant, last in (("a", 100), ("b", 120)):
            text = f"step:100/100 val_loss:3.{seed}1\nstep:{last}/100 val_loss:3.{seed}\n"
            (tmp_path / f"{variant}{seed}.txt").write_text(text)
    sources = [f"{variant}={tmp_path}/{variant}*.txt" for variant in "ab"]
    with pytest.raises(UserError, match="did not train equally long"):
        read_runs(sources, FORMATS["modded-nanogpt"])


def test_a_run_diverged_where_its_last_numbers_end(ten_logs: Path, write_log: WriteLog) -> None:
    write_log("muon", 2, ["nan", "4.0", "inf", "nan"])
    (diverged,) = [run.row for run in runs_of(ten_logs) if run.row.diverged]
    assert diverged.diverged_at_step == 300


def test_several_losses_at_a_step_are_noted(ten_logs: Path, write_log: WriteLog) -> None:
    path = write_log("muon", 2, ["4.0", "3.5", "3.1", "2.9"])
    path.write_text(path.read_text() + "step 400: train loss 9.0, val loss 2.8\n")
    notes = compare_logs(runs_of(ten_logs), FORM, baseline="adamw").analysis.notes
    assert any("seed 2" in note and "several losses at step 400" in note for note in notes)


def test_a_loss_that_cannot_be_squared_is_refused(ten_logs: Path, write_log: WriteLog) -> None:
    write_log("muon", 2, ["4.0", "3.5", "3.1", "2.9e200"])
    with pytest.raises(UserError, match=r"seed 2: value 2.9e\+200 is beyond"):
        compare_logs(runs_of(ten_logs), FORM, baseline="adamw")


def test_a_log_without_a_loss_is_shown_and_counts_as_failed_if_that_is_meant(
    ten_logs: Path,
) -> None:
    (ten_logs / "muon" / "seed3.txt").write_text("Traceback (most recent call last):\nKaboom\n")
    with pytest.raises(UserError, match=r"(?s)1 of 10 logs.*expression.*seed3\.txt.*Kaboom"):
        runs_of(ten_logs)
    assert outcomes(runs_of(ten_logs, empty_failed=True))["muon", 3] == "failed"


def test_a_copy_of_a_run_does_not_count_twice(ten_logs: Path) -> None:
    shutil.copy(ten_logs / "muon" / "seed0.txt", ten_logs / "muon" / "seed7.txt")
    with pytest.raises(UserError, match=r"(?s)count twice.*seed0\.txt and .*seed7\.txt"):
        runs_of(ten_logs)


def test_a_link_to_a_log_is_no_second_run(tmp_path: Path) -> None:
    for seed in range(3):
        (tmp_path / f"{seed}.txt").write_text(f"s:1 tel:3.{seed}\n")
    (tmp_path / "latest.txt").symlink_to("2.txt")
    sources, form = [f"a={tmp_path}/*.txt"], FORMATS["llm.c"]
    assert len(read_runs(sources, form)) == 3
    (tmp_path / "3.txt").symlink_to("2.txt")
    (tmp_path / "latest.txt").unlink()
    with pytest.raises(UserError, match="are one file: name one seed"):
        read_runs(sources, form, path_pattern=r"(?P<seed>\d)\.txt")
    (tmp_path / "3.txt").unlink()
    (tmp_path / "3.txt").symlink_to("gone.txt")
    with pytest.raises(UserError, match=r"cannot read .*3\.txt"):
        read_runs(sources, form)


@pytest.mark.parametrize(
    ("sources", "path_pattern", "message"),
    [
        (["{}/*/*.txt"], None, "names no variant"),
        (["x={}/none/*"], None, "no file matches"),
        (["x={}/*/*.txt"], BY_PATH, "and so does --path-pattern"),
        (["{}/*/*.txt"], r"(?P<variant>lion)", "does not match"),
        (["{}/*/*.txt"], r"(?P<variant>adamw|muon)/(?P<seed>\w+)", "not a whole number"),
        (["{}/*/*.txt"], r"(?P<variant>logs)/.*seed(?P<seed>\d)", "are both logs, seed 0"),
        (["{}/*/*.txt"], r"(?P<optimizer>\w+)", "must have the named groups"),
        (["x={}/muon/*.txt", "y={}/*/*.txt"], None, "belongs to one variant"),
    ],
)
def test_files_that_cannot_be_told_apart_are_refused(
    ten_logs: Path, sources: Sequence[str], path_pattern: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_runs([s.format(ten_logs) for s in sources], FORM, path_pattern=path_pattern)


def test_steps_to_the_target_and_the_speed_up(ten_logs: Path) -> None:
    found = compare_logs(runs_of(ten_logs), FORM, baseline="adamw", target=3.2)
    (way,) = found.ways
    assert way.speedup is not None
    assert way.speedup.kind == "about"
    assert way.speedup.ratio == pytest.approx(1.13, abs=0.05)
    (late,) = compare_logs(runs_of(ten_logs), FORM, baseline="adamw", target=2.95).ways
    assert late.speedup is not None
    assert late.speedup.kind == "at least"


def test_pairs_of_a_look_are_pairs_of_the_way_too(ten_logs: Path, write_log: WriteLog) -> None:
    write_log("adamw", 5, ["4.05", "3.45", "3.15", "3.05"])
    runs = runs_of(ten_logs)
    options: dict[str, Any] = {"baseline": "adamw", "pairing": "paired", "looks": (5, 6)}
    (way,) = compare_logs(runs, FORM, target=3.2, **options).ways
    assert way.speedup is not None
    assert way.speedup.n == 5


def test_a_run_that_saw_the_target_and_diverged_later_never_arrived(
    ten_logs: Path, write_log: WriteLog
) -> None:
    write_log("muon", 2, ["4.0", "3.1", "3.0", "nan"])
    (way,) = compare_logs(runs_of(ten_logs), FORM, baseline="adamw", target=3.2).ways
    assert way.speedup is not None
    assert (way.speedup.kind, way.speedup.variant_censored) == ("at most", 1)


def test_a_run_that_ended_at_step_0_has_no_way(ten_logs: Path, write_log: WriteLog) -> None:
    for seed in range(5):
        write_log("muon", seed, ["nan"], every=0)
    (way,) = compare_logs(runs_of(ten_logs), FORM, baseline="adamw", target=3.2).ways
    assert "before its first step" in way.sentence


def test_a_run_without_an_end_might_have_arrived(ten_logs: Path, write_log: WriteLog) -> None:
    write_log("muon", 4, ["4.0", "3.5"])
    (way,) = compare_logs(runs_of(ten_logs), FORM, baseline="adamw", target=3.2).ways
    assert way.speedup is None
    assert "might have arrived" in way.sentence


def test_the_json_and_the_curves_hold_all_that_was_read(ten_logs: Path) -> None:
    runs = runs_of(ten_logs)
    values = compare_logs(runs, FORM, baseline="adamw", target=3.2).to_json()
    text = json.loads(json.dumps(values, allow_nan=False))
    assert [log["value"] for log in text["logs"]] == [run.row.value for run in runs]
    assert text["steps_to_target"][0]["speedup"]["n"] == 5
    page = Path(__file__).parents[4] / "docs" / "reference" / "compare-json.md"
    assert all(f"| `{key}` |" in page.read_text(encoding="utf-8") for key in text)
    assert len(curves_csv(runs).splitlines()) == 1 + 10 * 4


losses = st.floats(1.0, 9.0) | st.just(float("nan")) | st.just(float("inf"))


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.lists(losses, min_size=1, max_size=5)), min_size=1)
)
def test_every_log_is_a_row_and_only_a_finite_last_loss_is_a_result(
    runs: list[tuple[str, list[float]]],
) -> None:
    logs = [
        Log(
            path=Path(f"{number}.txt"),
            points=tuple(Point(step, loss + number) for step, loss in enumerate(curve, 1)),
            total=None,
            went_back=(),
            first_lines=(),
        )
        for number, (_, curve) in enumerate(runs)
    ]
    named = [
        NamedLog(path=log.path, variant=name, seed=None)
        for log, (name, _) in zip(logs, runs, strict=True)
    ]
    ended = ended_runs(named, logs, unequal_steps=True)
    assert [run.row.variant for run in ended] == [name for name, _ in runs]
    for run, log in zip(ended, logs, strict=True):
        last = log.points[-1].loss
        if run.row.completed:
            assert run.row.value == last
        else:
            assert run.row.value is None
