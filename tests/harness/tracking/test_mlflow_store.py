"""Every point once, whatever was interrupted, however often it is written."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.study_analysis import analyse_study
from harness.runs.files import write_text
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import load_plan
from harness.study.plan import expand
from harness.tracking import mlflow_store as store
from harness.tracking.tracker import Tracker

Write = Callable[..., StudyFolder]
SMALL: dict[str, Any] = {"seeds": (0, 1, 2), "steps": 20, "every": 10}


def test_writing_again_changes_nothing(made_up_study: Write, stored: Any) -> None:
    folder = made_up_study(**SMALL)
    analyse_study(folder)
    Tracker(folder).sync()
    before, runs = stored.points(), stored.query("SELECT * FROM runs ORDER BY run_uuid")
    assert before == stored.expected(folder)
    Tracker(folder).sync()
    assert stored.points() == before
    assert stored.query("SELECT * FROM runs ORDER BY run_uuid") == runs


class ReadOnly:
    """The client, which refuses every call that could write."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Any:
        assert name.startswith(("get_", "search_")), f"{name} would write"
        return getattr(self.client, name)


def test_writing_again_sends_nothing(eventful_study: StudyFolder, stored: Any) -> None:
    analyse_study(eventful_study)
    write_text(eventful_study.report_folder / "index.html", "a page")
    tracker = Tracker(eventful_study)
    tracker.sync()
    tracker._client = ReadOnly(tracker._client)
    tracker.sync()


def test_a_run_that_was_created_twice_is_kept_once(made_up_study: Write, stored: Any) -> None:
    folder = made_up_study(**SMALL)
    tracker = Tracker(folder)
    tracker.sync()
    # A server that answers too late gets the same request again.
    own = {key: value for key, value in stored.tags("muon seed 1").items() if "optb" in key}
    assert tracker._client is not None
    tracker._client.create_run("1", tags=own, run_name="muon seed 1")
    tracker.sync()
    assert stored.points() == stored.expected(folder)
    alive = "SELECT COUNT(*) FROM runs WHERE lifecycle_stage = 'active'"
    assert stored.query(alive) == [(1 + 2 + 6,)]


def test_a_resumed_study_adds_what_is_new_and_nothing_twice(
    made_up_study: Write, made_up_class: Any, stored: Any
) -> None:
    unfinished = frozenset({("muon", 1), ("muon", 2), ("adamw", 2)})
    folder = made_up_study(**SMALL, unfinished=unfinished)
    for trial in (folder.path / "trials").iterdir():
        # Some trials are half done when MLflow is written for the first time.
        lines = (trial / "reports.jsonl").read_text().splitlines(keepends=True)
        (trial / "reports.jsonl").write_text("".join(lines[:2]))
        (trial / "outcome.json").unlink(missing_ok=True)
    Tracker(folder).sync()
    early = stored.points()
    _finish(made_up_class(**SMALL), folder)
    analyse_study(folder)
    tracker = Tracker(folder)
    tracker.sync()
    tracker.sync()
    assert set(stored.of_trials(early)) < set(stored.points())
    assert stored.of_trials(stored.points()) == stored.of_trials(stored.expected(folder))
    assert max(Counter(p[:3] for p in stored.points()).values()) == 1


def _finish(made_up: Any, folder: StudyFolder) -> None:
    """Ends every trial with the reports that it would have had from the start."""
    plan = load_plan(folder)
    specs = expand(made_up.study(), plan.data_sha256)
    for trial in plan.trials:
        if folder.trial(trial.key).outcome() is None:
            made_up.train(folder, plan, trial, specs[trial.key])


class Killed(BaseException):
    """Ends a process where it stands: nothing catches it."""


def dying(client: Any, after: int) -> Any:
    """The client, whose process ends before (or, half of the time, just after) its n-th call."""
    calls = iter(range(after + 1))

    class Dying:
        def __getattr__(self, name: str) -> Any:
            method = getattr(client, name)

            def call(*args: Any, **kwargs: Any) -> Any:
                left = after - next(calls, after)
                if left == 0 and after % 2:
                    raise Killed
                answer = method(*args, **kwargs)
                if left == 0:
                    raise Killed
                return answer

            return call

    return Dying()


@pytest.mark.parametrize("after", [1, 4, 5, 8, 9, 11, 14, 17, 20])
def test_a_kill_at_any_request_leaves_nothing_twice(
    made_up_study: Write, stored: Any, after: int
) -> None:
    folder = made_up_study(**SMALL)
    analyse_study(folder)
    tracker = Tracker(folder)
    tracker._client = dying(store.open_client(tracker.tracking_uri), after)
    with pytest.raises(Killed):
        tracker.sync()
    Tracker(folder).sync()
    assert stored.points() == stored.expected(folder)
    alive = stored.query("SELECT name FROM runs WHERE lifecycle_stage = 'active'")
    assert len(alive) == len(set(alive)) == 1 + 2 + 6


SYNC_AND_DIE = """
import os, signal, sys
from pathlib import Path
from harness.runs.folder import StudyFolder
from harness.tracking import study_runs as store
from harness.tracking.tracker import Tracker

write = store.StudyRuns._write_values

def write_and_die(self, run, record):
    write(self, run, record)
    if record.name == "muon seed 1":
        os.kill(os.getpid(), signal.SIGKILL)

store.StudyRuns._write_values = write_and_die
Tracker(StudyFolder(Path(sys.argv[1]))).sync()
"""


def test_a_killed_process_leaves_nothing_twice(made_up_study: Write, stored: Any) -> None:
    folder = made_up_study(**SMALL)
    process = subprocess.run([sys.executable, "-c", SYNC_AND_DIE, str(folder.path)], check=False)
    assert process.returncode == -signal.SIGKILL
    assert stored.points()
    Tracker(folder).sync()
    assert stored.points() == stored.expected(folder)


def test_a_trial_that_starts_from_scratch_replaces_its_run(
    made_up_study: Write, made_up_class: Any, stored: Any
) -> None:
    folder = made_up_study(**SMALL)
    Tracker(folder).sync()
    old = stored.tags("muon seed 1")["optbench.content_sha256"]
    plan, made_up = load_plan(folder), made_up_class(**SMALL)
    trial = next(t for t in plan.trials if (t.variant, t.seed) == ("muon", 1))
    spec = expand(made_up.study(), plan.data_sha256)[trial.key]
    made_up.train(folder, plan, trial, spec, salt=1)
    Tracker(folder).sync()
    assert stored.points() == stored.expected(folder)
    assert stored.tags("muon seed 1")["optbench.content_sha256"] != old


def test_a_new_attempt_that_got_further_does_not_continue_the_old_curve(
    made_up_study: Write, made_up_class: Any, stored: Any
) -> None:
    folder = made_up_study(**SMALL)
    plan, made_up = load_plan(folder), made_up_class(**SMALL)
    trial = next(t for t in plan.trials if (t.variant, t.seed) == ("muon", 1))
    target = folder.trial(trial.key)
    lines = target.reports_path.read_text().splitlines(keepends=True)
    target.reports_path.write_text("".join(lines[:2]))
    target.outcome_path.unlink()
    Tracker(folder).sync()
    made_up.train(folder, plan, trial, expand(made_up.study(), plan.data_sha256)[trial.key], salt=1)
    Tracker(folder).sync()
    assert stored.of_trials(stored.points()) == stored.of_trials(stored.expected(folder))


def test_a_failure_that_is_trained_again_loses_its_reason(
    made_up_study: Write, made_up_class: Any, stored: Any
) -> None:
    folder = made_up_study(**SMALL, failed={("muon", 1): "out of luck"})
    Tracker(folder).sync()
    assert stored.tags("muon seed 1")["reason"] == "out of luck"
    key = next(t.key for t in load_plan(folder).trials if (t.variant, t.seed) == ("muon", 1))
    folder.trial(key).outcome_path.unlink()
    _finish(made_up_class(**SMALL), folder)
    Tracker(folder).sync()
    assert "reason" not in stored.tags("muon seed 1")
    assert stored.points() == stored.expected(folder)
    status = "SELECT status FROM runs WHERE name = 'muon seed 1'"
    assert stored.query(status) == [("FINISHED",)]


def test_a_summary_whose_numbers_changed_replaces_the_old_one(
    made_up_study: Write, stored: Any
) -> None:
    folder = made_up_study(**SMALL)
    Tracker(folder).sync()
    assert stored.tags("muon (summary)")["verdict"] == "none yet"
    analyse_study(folder)
    Tracker(folder).sync()
    assert stored.points() == stored.expected(folder)
    parent = stored.tags("muon seed 0")["mlflow.parentRunId"]
    alive = "SELECT name FROM runs WHERE lifecycle_stage = 'active' AND run_uuid = "
    assert stored.query(f"{alive}'{parent}'") == [("muon (summary)",)]


def test_a_process_killed_while_it_makes_the_store_leaves_none(tmp_path: Path) -> None:
    """MLflow makes its tables one migration after the other, in seconds."""
    path = tmp_path / "mlflow.db"
    script = (
        "import sys; from harness.tracking.mlflow_store import open_client;"
        "print('now', flush=True); open_client(sys.argv[1]); print('made', flush=True)"
    )
    command = [sys.executable, "-c", script, f"sqlite:///{path}"]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        while not list(tmp_path.glob(".mlflow-*/mlflow.db")):
            assert killed.poll() is None, "it has ended before it was killed"
            time.sleep(0.01)
    finally:
        killed.kill()
        killed.communicate()
    assert not path.exists()
    assert store.open_client(f"sqlite:///{path}").search_experiments()
