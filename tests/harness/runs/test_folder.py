"""The files of a study: whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.runs.files import write_text
from harness.runs.folder import StudyFolder, TrialFolder
from harness.training.records import Outcome, Report

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


def a_report(step: int, loss: float | None = 3.0) -> Report:
    return Report(
        step=step,
        tokens=step * 10,
        train_loss=loss,
        validation_loss=loss,
        validation_accuracy=0.25,
        learning_rate=0.01,
        gradient_norm=1.0,
        train_time_s=1.0,
        step_time_s=0.1,
        tokens_per_s=100.0,
        evaluation_time_s=0.5,
        startup_time_s=0.2,
        peak_memory_bytes=1,
        router_load=[[0.5, 0.5]],
        dead_experts=0,
        counters={},
    )


@given(losses=st.lists(finite | st.none(), max_size=5))
@settings(max_examples=20, deadline=None)
def test_reports_come_back_as_they_were_written(
    losses: list[float | None], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = TrialFolder(tmp_path_factory.mktemp("trial"))
    reports = [a_report(step, loss) for step, loss in enumerate(losses)]
    for report in reports:
        folder.append(report)
    assert folder.reports() == reports


def test_a_line_cut_by_a_crash_is_left_out(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path)
    folder.append(a_report(1))
    with folder.reports_path.open("a") as file:
        file.write('{"step": 2, "tok')
    assert [report.step for report in folder.reports()] == [1]


def test_a_non_finite_number_is_written_as_null(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path)
    folder.finish(Outcome(outcome="diverged", validation_loss=float("nan")))
    outcome = folder.outcome()
    assert outcome is not None
    assert outcome.validation_loss is None


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.json"
    write_text(path, "old")

    def full_disk(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_driver_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    with folder.locked(), pytest.raises(UserError, match="in use"), folder.locked():
        pass
