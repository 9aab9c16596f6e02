"""suite.json: frozen with its tasks' plans; what may be added, and what needs an amendment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.runs.plan_file import freeze, load_plan
from harness.runs.suite_folder import SuiteFolder, SuitePlan
from harness.runs.suite_plan import (
    freeze_suite,
    load_suite_plan,
    make_suite_plan,
    suite_amendments,
)
from harness.study.load import load_study
from harness.study.plan import make_plan
from harness.study.suite_file import load_suite

DATA = "0" * 64


@pytest.fixture
def folder(tmp_path: Path) -> SuiteFolder:
    return SuiteFolder(tmp_path / "runs" / "tiny-suite")


def frozen(
    suite_file: Path, folder: SuiteFolder, *overrides: str, amend: str | None = None
) -> SuitePlan:
    suite = load_suite(suite_file, overrides)
    plans = {task.name: make_plan(task.study, DATA) for task in suite.tasks}
    plan = make_suite_plan(suite, plans, dict.fromkeys(plans, 1000))
    freeze_suite(folder, suite, plan, plans, source=suite_file, amend=amend)
    return load_suite_plan(folder)


def test_what_is_frozen_is_read_back_and_frozen_again(
    suite_file: Path, folder: SuiteFolder
) -> None:
    plan = frozen(suite_file, folder)
    assert frozen(suite_file, folder) == plan
    assert [(task.name, task.tokens) for task in plan.tasks] == [
        ("plain", 6 * 8 * 32),
        ("long", 12 * 8 * 32),
    ]
    assert plan.challengers == ("muon",)
    long = folder.task("long")
    assert plan.tasks[1].plan_sha256 == load_plan(long).sha256
    assert long.name == "tiny-suite.long"
    assert long.runs_dir == folder.path.parent
    assert load_study(long.path / "study.toml").training.steps == 12


def test_a_task_s_folder_is_that_of_the_same_study_alone(
    suite_file: Path, folder: SuiteFolder
) -> None:
    """What it wrote as its study file has the plan that was frozen."""
    frozen(suite_file, folder)
    task = folder.task("long")
    alone = load_study(task.path / "study.toml")
    assert freeze(task, make_plan(alone, DATA), source=task.path / "study.toml") is None


def test_seeds_may_be_added_and_a_changed_suite_is_refused(
    suite_file: Path, folder: SuiteFolder
) -> None:
    before = frozen(suite_file, folder)
    after = frozen(suite_file, folder, "seeds.confirmation=[0, 1, 2, 3]")
    assert after.sha256 != before.sha256
    assert len(folder.task("plain").additions()) == 1
    assert suite_amendments(folder) == []
    for override in ("suite.measure='time'", "suite.seed=1", "tasks.long.name='longer'"):
        with pytest.raises(UserError, match="different suite"):
            frozen(suite_file, folder, override, "seeds.confirmation=[0, 1, 2, 3]")
    with pytest.raises(UserError, match="different suite"):
        frozen(suite_file, folder, "suite.alpha=0.01", "seeds.confirmation=[0, 1, 2, 3]")
    assert load_suite_plan(folder) == after


def test_what_one_task_refuses_is_written_for_none(suite_file: Path, folder: SuiteFolder) -> None:
    frozen(suite_file, folder)
    overrides = ("seeds.confirmation=[0, 1, 2, 3]", "tasks.long.training.clip_norm=2.0")
    with pytest.raises(UserError, match=r"training\.clip_norm"):
        frozen(suite_file, folder, *overrides)
    assert folder.task("plain").additions() == []
    assert load_plan(folder.task("plain")).study["seeds"]["confirmation"] == [0, 1, 2]


def test_a_change_with_a_reason_is_kept(suite_file: Path, folder: SuiteFolder) -> None:
    frozen(suite_file, folder)
    plan = frozen(suite_file, folder, "suite.measure='time'", amend="steps cost different times")
    assert plan.settings.measure == "time"
    (amendment,) = suite_amendments(folder)
    assert amendment.why == "steps cost different times"
    assert amendment.changes == ("settings.measure ('steps' -> 'time')",)


def test_files_that_were_changed_by_hand_are_refused(suite_file: Path, folder: SuiteFolder) -> None:
    frozen(suite_file, folder)
    text = folder.plan_path.read_text()
    folder.plan_path.write_text(text.replace('"seed": 0', '"seed": 1'))
    with pytest.raises(UserError, match="changed after it was written"):
        load_suite_plan(folder)
    folder.plan_path.write_text(text)
    path = folder.task("long").plan_path
    path.write_text(json.dumps({**json.loads(path.read_text()), "plan_sha256": "0"}))
    with pytest.raises(UserError, match="not the plan that the suite was frozen with"):
        load_suite_plan(folder)


def test_a_study_and_a_suite_of_one_name_do_not_mix(
    suite_file: Path, study_file: Path, folder: SuiteFolder, tmp_path: Path
) -> None:
    frozen(suite_file, folder)
    alone = load_suite(suite_file).tasks[0].study
    from harness.runs.folder import StudyFolder

    with pytest.raises(UserError, match="holds a suite of this name"):
        freeze(StudyFolder(folder.path), make_plan(alone, DATA), source=study_file)
    other = SuiteFolder(tmp_path / "runs" / "tiny")
    study = load_study(study_file)
    freeze(StudyFolder(other.path), make_plan(study, DATA), source=study_file)
    with pytest.raises(UserError, match="holds a study of this name"):
        frozen(suite_file, other)


def test_one_driver_holds_the_suite_and_its_tasks(suite_file: Path, folder: SuiteFolder) -> None:
    frozen(suite_file, folder)
    with folder.locked(("plain", "long")):
        with pytest.raises(UserError, match="in use by another"), folder.task("long").locked():
            pass
        with pytest.raises(UserError, match="in use by another"), folder.locked(()):
            pass
    with folder.task("long").locked():
        pass
