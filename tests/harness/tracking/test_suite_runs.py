"""A suite in MLflow: the leaderboard as runs, with the way to every task and the report."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_suite_folder import CONTESTANTS, TASKS, write_suite

from harness.analysis.suite.suite_analysis import SuiteResults, analyse_suite, load_suite_results
from harness.report.suite.write import write_suite_report
from harness.runs.files import write_json
from harness.runs.suite_folder import SuiteFolder
from harness.tracking.suite_runs import SuiteTracker
from harness.tracking.tracker import Tracker, TrackingUnavailable
from harness.tracking.ui_views import ui_links


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_suite(tmp_path_factory.mktemp("written"))
    analyse_suite(folder)
    return folder.path


@pytest.fixture
def results(stored: Any, written: Path) -> SuiteResults:
    target = stored.runs_dir / written.name
    shutil.copytree(written, target)
    return load_suite_results(SuiteFolder(target))


def test_every_contestant_is_a_run_with_its_scores(results: SuiteResults, stored: Any) -> None:
    sent = SuiteTracker(results.folder).sync(results)
    assert sent.runs == 1 + len(CONTESTANTS)
    assert results.analysis is not None
    values = {(run, key): value for run, key, _, value in stored.points()}
    for standing in results.analysis.leaderboard:
        assert standing.score is not None
        assert values[standing.variant, "place"] == standing.place
        assert values[standing.variant, "score"] == pytest.approx(standing.score.value, rel=1e-5)
        assert values[standing.variant, "lost"] == standing.lost
        tags = stored.tags(standing.variant)
        assert tags["suite"] == "ladder"
        assert tags["contestant"] == standing.variant
        assert tags["rank"] == str(standing.place)
    found = results.analysis.result("small", "muon").difference
    assert values["muon", "difference/small"] == pytest.approx(found, rel=1e-5)
    assert ("muon-hot", "difference/large") not in values, "it lost every run there"
    assert stored.tags("muon-hot")["lost runs"] == "5 of 12"


def test_a_second_time_sends_nothing_and_new_results_replace_the_scores(
    results: SuiteResults, stored: Any
) -> None:
    tracker = SuiteTracker(results.folder)
    tracker.sync(results)
    again = SuiteTracker(results.folder).sync(results)
    assert (again.runs, again.points) == (0, 0)
    assert results.analysis is not None
    board = [replace(row, lost=7) for row in results.analysis.leaderboard]
    changed = replace(results, analysis=replace(results.analysis, leaderboard=tuple(board)))
    assert tracker.sync(changed).runs == len(CONTESTANTS)
    lost = {value for run, key, _, value in stored.points() if key == "lost"}
    assert lost == {7.0}


def test_the_note_leads_to_the_leaderboard_and_to_every_task_that_is_there(
    results: SuiteResults, stored: Any
) -> None:
    for task in list(TASKS)[:2]:
        Tracker(results.folder.task(task)).sync()
    SuiteTracker(results.folder).sync(results)
    (note,) = stored.query(
        "SELECT t.value FROM experiment_tags t JOIN experiments e "
        "ON e.experiment_id = t.experiment_id "
        "WHERE e.name = 'ladder' AND t.key = 'mlflow.note.content'"
    )
    for name in ("leaderboard", *list(TASKS)[:2]):
        assert f"[{name}](#/experiments/" in note[0]
    assert "[large](" not in note[0]
    assert "1. muon is better than adamw on 3 of 3 tasks" in note[0]
    links = dict(ui_links(stored.runs_dir))
    assert set(links) == {"ladder", "ladder.small", "ladder.medium"}
    assert list(links["ladder"]) == ["leaderboard"]


def test_the_report_is_an_artifact_of_the_run_of_the_suite(
    results: SuiteResults, stored: Any
) -> None:
    write_suite_report(results)
    SuiteTracker(results.folder).sync(results)
    kept = {path.name for path in (stored.runs_dir / "mlartifacts" / "ladder").rglob("*")}
    assert {"index.html", "leaderboard.csv", "analysis.json", "suite.json"} <= kept


def test_a_store_that_cannot_be_written_is_told_and_costs_no_result(
    results: SuiteResults, tmp_path: Path
) -> None:
    write_json(tmp_path / "no-database", {})
    tracker = SuiteTracker(results.folder, f"sqlite:///{tmp_path / 'no-database'}")
    with pytest.raises(TrackingUnavailable):
        tracker.sync(results)
