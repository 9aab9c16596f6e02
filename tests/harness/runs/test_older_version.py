"""A runs folder that version 0.1.0 wrote is read, and says the same."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from harness.analysis.result_rows import COMPUTED_COLUMNS
from harness.analysis.study_analysis import analyse_study
from harness.analysis.study_results import load_results
from harness.errors import UserError
from harness.report.results_csv import results_csv
from harness.report.terminal.status import status_values
from harness.runs.files import read_json, write_json
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import freeze, load_plan
from harness.runs.snapshot import load_snapshot
from harness.study.load import load_study
from harness.study.plan import Plan, make_plan
from harness.study.study_file import Study

WRITTEN = Path(__file__).parent / "written-by-0.1.0" / "searched"


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """A search of two variants by TPE with halving and a widening, then its confirmation."""
    return StudyFolder(shutil.copytree(WRITTEN, tmp_path / "searched"))


def test_an_analysis_of_another_rule_is_not_shown_but_made_again(folder: StudyFolder) -> None:
    assert load_results(folder).analysis is None, "version 1 judged by Holm"
    before = json.loads(folder.analysis_path.read_text())
    assert analyse_study(folder).analysis is not None
    after = json.loads(folder.analysis_path.read_text())
    assert after["variants"] == before["variants"]
    (old,), (new,) = before["comparisons"], after["comparisons"]
    same = ("mean_difference", "p", "statistic", "paired", "pairing_certified", "n")
    assert {name: new[name] for name in same} == {name: old[name] for name in same}
    unrecorded = "; precision, device and code are not recorded"
    assert new["pairing_reason"] == old["pairing_reason"] + unrecorded
    assert new["interval_alone"] == old["interval"]


def test_the_table_of_results_is_the_same_with_empty_columns_for_what_was_not_recorded(
    folder: StudyFolder,
) -> None:
    table = list(csv.DictReader(io.StringIO(results_csv(load_results(folder).trials))))
    for row in table:
        assert {row.pop(column) for column in (*COMPUTED_COLUMNS, "leaked_loss")} == {""}
    with (folder.path / "results.csv").open(newline="") as file:
        assert table == list(csv.DictReader(file))


def test_an_analysis_is_read_back_whole(folder: StudyFolder) -> None:
    analysis = analyse_study(folder).analysis
    assert analysis is not None
    assert load_results(folder).analysis == analysis


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


def asked_again(folder: StudyFolder, **analysis: object) -> Plan:
    """The plan that the study file of this folder gives today."""
    values = read_json(folder.plan_path)
    values["study"]["analysis"] |= analysis
    return make_plan(Study.model_validate(values["study"]), values["data_sha256"])


def test_the_folder_is_continued_though_settings_have_come_since(folder: StudyFolder) -> None:
    before, plan = folder.plan_path.read_bytes(), asked_again(folder)
    assert plan.sha256 != load_plan(folder).sha256, "there are settings that 0.1.0 did not know"
    freeze(folder, plan, source=folder.plan_path)
    assert folder.plan_path.read_bytes() == before
    assert not folder.amendments_path.exists()


def test_a_change_is_still_refused_and_nothing_else_is_blamed(folder: StudyFolder) -> None:
    changed = asked_again(folder, alpha=0.01)
    with pytest.raises(UserError, match=r"Changed: analysis\.alpha \(0\.05 -> 0\.01\)\. A changed"):
        freeze(folder, changed, source=folder.plan_path)


def test_an_amendment_says_how_many_runs_had_ended(folder: StudyFolder) -> None:
    ended = sum(trial.outcome is not None for trial in load_snapshot(folder).distinct())
    freeze(folder, asked_again(folder, alpha=0.01), source=folder.plan_path, amend="stricter")
    (amendment,) = folder.amendments()
    assert amendment.outcomes == ended > 0
    (values,) = read_json(folder.amendments_path)
    del values["outcomes"]
    write_json(folder.amendments_path, [values])
    assert folder.amendments()[0].outcomes == 0, "0.1.0 did not write it"


def test_runs_with_other_keys_are_another_plan(study_file: Path, tmp_path: Path) -> None:
    """Where a version would train other runs for the same settings, they cannot be mixed."""
    folder = StudyFolder(tmp_path / "runs" / "tiny")
    plan = make_plan(load_study(study_file), "0" * 64)
    study = {**plan.study, "analysis": {**plan.study["analysis"]}}
    del study["analysis"]["horizons"]
    renamed = plan.trials[0].model_copy(update={"key": "f" * 16})
    old = plan.model_copy(update={"study": study, "trials": (renamed, *plan.trials[1:])})
    freeze(folder, old, source=study_file)
    with pytest.raises(UserError, match="different plan"):
        freeze(folder, plan, source=study_file)


def test_a_margin_that_was_accepted_without_horizons_is_read_and_refused_in_words(
    folder: StudyFolder,
) -> None:
    values = read_json(folder.plan_path)
    values["study"]["analysis"]["margin_speedup_percent"] = 5.0
    del values["plan_sha256"]
    stated = Plan.model_validate(values).sha256
    write_json(folder.plan_path, {**values, "plan_sha256": stated})
    results = analyse_study(folder)
    assert results.analysis is None
    assert "horizons = [2, 4, 16]" in (results.error or "")
