"""A runs folder that version 0.1.0 wrote is read, and says the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.analysis.study_analysis import analyse_study
from harness.analysis.study_results import load_results
from harness.report.results_csv import results_csv
from harness.report.terminal.status import status_values
from harness.runs.folder import StudyFolder
from harness.runs.snapshot import load_snapshot

WRITTEN = Path(__file__).parent / "written-by-0.1.0" / "searched"


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """A search of two variants by TPE with halving and a widening, then its confirmation."""
    return StudyFolder(shutil.copytree(WRITTEN, tmp_path / "searched"))


def test_the_analysis_that_was_written_is_read_back_whole(folder: StudyFolder) -> None:
    results = load_results(folder)
    assert results.analysis is not None
    written = json.loads(folder.analysis_path.read_text())
    assert {**results.analysis.to_json(), "plan_sha256": results.plan.sha256} == written


def test_analysing_again_gives_the_same_analysis_and_the_same_table(folder: StudyFolder) -> None:
    before = json.loads(folder.analysis_path.read_text())
    results = analyse_study(folder)
    assert json.loads(folder.analysis_path.read_text()) == before
    assert results_csv(results.trials) == (folder.path / "results.csv").read_text()


def test_the_search_is_read_with_its_choice_and_its_cost(folder: StudyFolder) -> None:
    results = load_results(folder)
    assert results.search is not None
    assert results.search.finished
    for found in results.search.variants.values():
        assert found.chosen is not None
        assert found.ledger.training_runs == len(found.configurations)
    assert results.complete


def test_every_trial_has_a_name_and_a_state(folder: StudyFolder) -> None:
    snapshot = load_snapshot(folder)
    trials = status_values(snapshot)["trials"]
    assert len(trials) == len(snapshot.distinct())
    assert {row["phase"] for row in trials.values()} == {"tuning", "confirmation"}
    assert {row["state"] for row in trials.values()} <= {"completed", "stopped"}
