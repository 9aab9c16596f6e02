"""MLflow agrees with the files: every point once, whatever was interrupted and however often."""

from __future__ import annotations

import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.report import analyse_study, build
from harness.report.view import load_view
from harness.results import StudyFolder
from harness.study import expand, load_plan
from harness.tracking import Tracker, TrackingUnavailable, store, ui_command, ui_links
from harness.tracking.records import records, trial_record

Write = Callable[..., StudyFolder]
Point = tuple[str, str, int, float]
SMALL: dict[str, Any] = {"seeds": (0, 1, 2), "steps": 20, "every": 10}


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables: creating them takes seconds, copying the file does not."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    store.open_client(f"sqlite:///{path}")
    return path


@pytest.fixture
def runs_dir(tmp_path: Path, empty_store: Path) -> Path:
    """Where `made_up_study` writes."""
    path = tmp_path / "runs"
    path.mkdir(exist_ok=True)
    shutil.copy(empty_store, path / "mlflow.db")
    return path


def query(runs_dir: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(runs_dir / "mlflow.db")) as connection:
        return connection.execute(sql).fetchall()


def points(runs_dir: Path) -> list[Point]:
    """Every stored point of every run that was not deleted: run, metric, step, value."""
    return sorted(
        query(
            runs_dir,
            "SELECT r.name, m.key, m.step, m.value FROM metrics m JOIN runs r "
            "ON r.run_uuid = m.run_uuid WHERE r.lifecycle_stage = 'active'",
        )
    )


def tags(runs_dir: Path, name: str) -> dict[str, str]:
    return dict(
        query(
            runs_dir,
            "SELECT t.key, t.value FROM tags t JOIN runs r ON r.run_uuid = t.run_uuid "
            f"WHERE r.lifecycle_stage = 'active' AND r.name = '{name}'",
        )
    )


def expected_points(folder: StudyFolder) -> list[Point]:
    return sorted(
        (record.name, key, step, value)
        for record in records(load_view(folder))
        for group in record.groups
        for key, value, step in group.values
    )


def of_trials(found: list[Point]) -> list[Point]:
    """Without the summaries, which have one point for each state of the study."""
    return [point for point in found if " seed " in point[0]]


def test_every_field_of_every_report_is_a_point(made_up_study: Write, runs_dir: Path) -> None:
    folder = made_up_study(**SMALL)
    Tracker(folder).sync()
    stored = {(name, key, step): value for name, key, step, value in points(runs_dir)}
    trial = load_view(folder).of("muon")[1]
    for report in trial.reports:
        numbers = report.model_dump(exclude={"router_load", "counters"})
        numbers |= {f"counters/{name}": value for name, value in report.counters.items()}
        for name, value in numbers.items():
            if value is not None:
                assert stored["muon seed 1", name, report.step] == value
        by_tokens = stored["muon seed 1", "by_tokens/validation_loss", report.tokens]
        assert by_tokens == report.validation_loss
    assert stored["muon seed 1", "final_validation_loss", 20] == trial.loss


def test_writing_again_changes_nothing(made_up_study: Write, runs_dir: Path) -> None:
    folder = made_up_study(**SMALL)
    analyse_study(folder)
    Tracker(folder).sync()
    before, runs = points(runs_dir), query(runs_dir, "SELECT * FROM runs ORDER BY run_uuid")
    assert before == expected_points(folder)
    Tracker(folder).sync()
    assert points(runs_dir) == before
    assert query(runs_dir, "SELECT * FROM runs ORDER BY run_uuid") == runs


class ReadOnly:
    """The client, which refuses every call that could write."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Any:
        assert name.startswith(("get_", "search_")), f"{name} would write"
        return getattr(self.client, name)


def test_writing_again_sends_nothing(eventful_study: StudyFolder, runs_dir: Path) -> None:
    build(eventful_study)
    tracker = Tracker(eventful_study)
    tracker.sync()
    tracker._client = ReadOnly(tracker._client)  # type: ignore[assignment]
    tracker.sync()


def test_a_run_that_was_created_twice_is_kept_once(made_up_study: Write, runs_dir: Path) -> None:
    folder = made_up_study(**SMALL)
    tracker = Tracker(folder)
    tracker.sync()
    # A server that answers too late gets the same request again.
    own = {key: value for key, value in tags(runs_dir, "muon seed 1").items() if "optb" in key}
    assert tracker._client is not None
    tracker._client.create_run("1", tags=own, run_name="muon seed 1")
    tracker.sync()
    assert points(runs_dir) == expected_points(folder)
    alive = "SELECT COUNT(*) FROM runs WHERE lifecycle_stage = 'active'"
    assert query(runs_dir, alive) == [(1 + 2 + 6,)]


def test_a_resumed_study_adds_what_is_new_and_nothing_twice(
    made_up_study: Write, made_up_class: Any, runs_dir: Path
) -> None:
    unfinished = frozenset({("muon", 1), ("muon", 2), ("adamw", 2)})
    folder = made_up_study(**SMALL, unfinished=unfinished)
    for trial in (folder.path / "trials").iterdir():
        # Some trials are half done when MLflow is written for the first time.
        lines = (trial / "reports.jsonl").read_text().splitlines(keepends=True)
        (trial / "reports.jsonl").write_text("".join(lines[:2]))
        (trial / "outcome.json").unlink(missing_ok=True)
    Tracker(folder).sync()
    early = points(runs_dir)
    _finish(made_up_class(**SMALL), folder)
    analyse_study(folder)
    tracker = Tracker(folder)
    tracker.sync()
    tracker.sync()
    assert set(of_trials(early)) < set(points(runs_dir))
    assert of_trials(points(runs_dir)) == of_trials(expected_points(folder))
    assert max(Counter(p[:3] for p in points(runs_dir)).values()) == 1


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
    made_up_study: Write, runs_dir: Path, after: int
) -> None:
    folder = made_up_study(**SMALL)
    analyse_study(folder)
    tracker = Tracker(folder)
    tracker._client = dying(store.open_client(tracker.tracking_uri), after)
    with pytest.raises(Killed):
        tracker.sync()
    Tracker(folder).sync()
    assert points(runs_dir) == expected_points(folder)
    alive = query(runs_dir, "SELECT name FROM runs WHERE lifecycle_stage = 'active'")
    assert len(alive) == len(set(alive)) == 1 + 2 + 6


SYNC_AND_DIE = """
import os, signal, sys
from pathlib import Path
from harness.results import StudyFolder
from harness.tracking import Tracker, store

write = store.StudyRuns._write_values

def write_and_die(self, run, record):
    write(self, run, record)
    if record.name == "muon seed 1":
        os.kill(os.getpid(), signal.SIGKILL)

store.StudyRuns._write_values = write_and_die
Tracker(StudyFolder(Path(sys.argv[1]))).sync()
"""


def test_a_killed_process_leaves_nothing_twice(made_up_study: Write, runs_dir: Path) -> None:
    folder = made_up_study(**SMALL)
    process = subprocess.run([sys.executable, "-c", SYNC_AND_DIE, str(folder.path)], check=False)
    assert process.returncode == -signal.SIGKILL
    assert points(runs_dir)
    Tracker(folder).sync()
    assert points(runs_dir) == expected_points(folder)


def test_a_trial_that_starts_from_scratch_replaces_its_run(
    made_up_study: Write, made_up_class: Any, runs_dir: Path
) -> None:
    folder = made_up_study(**SMALL)
    Tracker(folder).sync()
    old = tags(runs_dir, "muon seed 1")["optbench.content_sha256"]
    plan, made_up = load_plan(folder), made_up_class(**SMALL)
    trial = next(t for t in plan.trials if (t.variant, t.seed) == ("muon", 1))
    spec = expand(made_up.study(), plan.data_sha256)[trial.key]
    made_up.train(folder, plan, trial, spec, salt=1)
    Tracker(folder).sync()
    assert points(runs_dir) == expected_points(folder)
    assert tags(runs_dir, "muon seed 1")["optbench.content_sha256"] != old


def test_a_new_attempt_that_got_further_does_not_continue_the_old_curve(
    made_up_study: Write, made_up_class: Any, runs_dir: Path
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
    assert of_trials(points(runs_dir)) == of_trials(expected_points(folder))


def test_a_failure_that_is_trained_again_loses_its_reason(
    made_up_study: Write, made_up_class: Any, runs_dir: Path
) -> None:
    folder = made_up_study(**SMALL, failed={("muon", 1): "out of luck"})
    Tracker(folder).sync()
    assert tags(runs_dir, "muon seed 1")["reason"] == "out of luck"
    key = next(t.key for t in load_plan(folder).trials if (t.variant, t.seed) == ("muon", 1))
    folder.trial(key).outcome_path.unlink()
    _finish(made_up_class(**SMALL), folder)
    Tracker(folder).sync()
    assert "reason" not in tags(runs_dir, "muon seed 1")
    assert points(runs_dir) == expected_points(folder)
    status = "SELECT status FROM runs WHERE name = 'muon seed 1'"
    assert query(runs_dir, status) == [("FINISHED",)]


def test_a_summary_whose_numbers_changed_replaces_the_old_one(
    made_up_study: Write, runs_dir: Path
) -> None:
    folder = made_up_study(**SMALL)
    Tracker(folder).sync()
    assert tags(runs_dir, "muon (summary)")["verdict"] == "none yet"
    analyse_study(folder)
    Tracker(folder).sync()
    assert points(runs_dir) == expected_points(folder)
    parent = tags(runs_dir, "muon seed 0")["mlflow.parentRunId"]
    alive = "SELECT name FROM runs WHERE lifecycle_stage = 'active' AND run_uuid = "
    assert query(runs_dir, f"{alive}'{parent}'") == [("muon (summary)",)]


def test_a_diverged_trial_shows_its_last_finite_loss_and_a_tag(
    eventful_study: StudyFolder,
) -> None:
    view = load_view(eventful_study)
    record = trial_record(view, view.of("muon-hot")[3])
    losses = [
        (step, value)
        for group in record.groups
        for key, value, step in group.values
        if key == "validation_loss"
    ]
    assert losses[-1] == (50, view.of("muon-hot")[3].reports[5].validation_loss)
    assert record.tags["outcome"] == "diverged"
    assert record.tags["diverged"] == "60"
    assert not any(key == "final_validation_loss" for g in record.groups for key, _, _ in g.values)


def test_no_point_is_ever_nan_or_infinite(eventful_study: StudyFolder) -> None:
    for record in records(load_view(eventful_study)):
        for group in record.groups:
            assert all(math.isfinite(value) for _, value, _ in group.values)


def test_the_summary_holds_what_the_ui_cannot_compute(made_up_study: Write, runs_dir: Path) -> None:
    folder = made_up_study(**SMALL)
    analysis = analyse_study(folder)
    assert analysis is not None
    Tracker(folder).sync()
    comparison = analysis.comparisons[0]
    stored = {key: value for name, key, _, value in points(runs_dir) if name == "muon (summary)"}
    assert stored["difference"] == comparison.mean_difference
    assert comparison.interval is not None
    assert stored["difference/low"] == comparison.interval.low
    assert stored["p_holm"] == comparison.p_holm
    assert stored["outcomes/completed"] == 3
    found = tags(runs_dir, "muon (summary)")
    assert found["verdict"] == comparison.verdict
    assert found["mlflow.note.content"] == comparison.sentence


def test_runs_are_nested_and_tagged(made_up_study: Write, runs_dir: Path) -> None:
    folder = made_up_study(**SMALL)
    Tracker(folder).sync()
    found, plan = tags(runs_dir, "adamw seed 2"), load_plan(folder)
    assert found["study"] == "made-up"
    assert (found["variant"], found["seed"], found["phase"]) == ("adamw", "2", "confirmation")
    assert found["plan_sha256"] == plan.sha256
    assert found["outcome"] == "completed"
    assert len(found["initial_sha256"]) == len(found["batches_sha256"]) == 64
    parents = dict(
        query(
            runs_dir,
            "SELECT r.name, p.name FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid AND "
            "t.key = 'mlflow.parentRunId' JOIN runs p ON p.run_uuid = t.value",
        )
    )
    assert parents["adamw seed 2"] == "adamw (summary)"
    assert parents["adamw (summary)"] == "made-up (study)"
    assert "made-up (study)" not in parents


def test_equal_variants_each_have_their_runs(made_up_study: Write, runs_dir: Path) -> None:
    same = {"kind": "adamw", "lr": 0.004}
    Tracker(made_up_study(**SMALL, variants={"one": same, "two": same})).sync()
    by_name: dict[str, list[Any]] = {}
    for name, key, step, value in points(runs_dir):
        by_name.setdefault(name, []).append((key, step, value))
    assert by_name["one seed 1"] == by_name["two seed 1"]


def test_the_report_is_an_artifact_and_is_uploaded_once(
    made_up_study: Write, runs_dir: Path
) -> None:
    folder = made_up_study(**SMALL)
    page = build(folder)
    Tracker(folder).sync()
    (stored,) = (runs_dir / "mlartifacts" / "made-up").glob("*/artifacts/index.html")
    assert stored.read_bytes() == page.read_bytes()
    assert (stored.parent / "plan.json").exists()
    assert (stored.parent / "forest.png").exists()
    stored.unlink()
    Tracker(folder).sync()
    assert not stored.exists(), "an unchanged report is not uploaded again"
    page.write_text("another page")
    Tracker(folder).sync()
    assert stored.read_text() == "another page"


def test_large_studies_stay_below_the_limits_of_a_request(
    made_up_study: Write, runs_dir: Path
) -> None:
    many = {f"adamw-{i}": {"kind": "adamw", "lr": 0.001 * (i + 1)} for i in range(19)}
    folder = made_up_study(seeds=(0,), variants=many, effects={}, steps=60, every=1)
    view = load_view(folder)
    study, *_, last = records(view)
    assert len(study.params) > store.PARAMS_PER_BATCH, "the test is about more than one request"
    assert sum(len(group.values) for group in last.groups) > store.METRICS_PER_BATCH
    for trial in view.trials[1:]:
        shutil.rmtree(folder.trial(trial.key).path)
    Tracker(folder).sync()
    assert points(runs_dir) == expected_points(folder)


def test_two_folders_with_the_same_study_do_not_mix(
    made_up_study: Write, made_up_class: Any, runs_dir: Path, tmp_path: Path
) -> None:
    first = made_up_study(**SMALL)
    second = made_up_class(**SMALL).write(tmp_path / "elsewhere")
    uri = f"sqlite:///{runs_dir / 'mlflow.db'}"
    Tracker(first, uri).sync()
    Tracker(second, uri).sync()
    Tracker(first, uri).sync()
    counts = Counter(name for (name,) in query(runs_dir, "SELECT name FROM runs"))
    assert set(counts.values()) == {2}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")


@pytest.mark.usefixtures("impatient")
def test_a_server_that_is_down_is_one_clear_error(made_up_study: Write) -> None:
    tracker = Tracker(made_up_study(**SMALL), "http://127.0.0.1:9")
    with pytest.raises(TrackingUnavailable, match=r"http://127\.0\.0\.1:9") as first:
        tracker.sync()
    assert str(first.value) == "http://127.0.0.1:9: nothing answers there (connection refused)"
    tracker._quiet_until = math.inf
    with pytest.raises(TrackingUnavailable) as second:
        tracker.sync()
    assert str(second.value) == str(first.value)
    assert second.value.__cause__ is None, "the server was not asked again"


def test_a_store_that_cannot_be_written_is_unavailable(
    made_up_study: Write, tmp_path: Path
) -> None:
    folder = made_up_study(**SMALL)
    (tmp_path / "runs" / "mlflow.db").write_text(
        "this is no database, whatever it is called\n" * 99
    )
    with pytest.raises(TrackingUnavailable, match=r"mlflow\.db"):
        Tracker(folder).sync()


def test_a_deleted_experiment_is_not_brought_back(made_up_study: Write, runs_dir: Path) -> None:
    folder = made_up_study(**SMALL)
    Tracker(folder).sync()
    client = store.open_client(f"sqlite:///{runs_dir / 'mlflow.db'}")
    client.delete_experiment(client.get_experiment_by_name("made-up").experiment_id)
    with pytest.raises(TrackingUnavailable, match="restore"):
        Tracker(folder).sync()


def test_the_ui_runs_on_loopback_over_the_runs_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", raising=False)
    command = ui_command(tmp_path, port=5123)
    assert Path(command[0]).is_absolute()
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "5123"
    assert command[command.index("--backend-store-uri") + 1] == f"sqlite:///{tmp_path}/mlflow.db"
    assert os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_the_ui_has_an_address_for_every_study(made_up_study: Write, runs_dir: Path) -> None:
    assert list(ui_links(runs_dir / "nowhere")) == []
    assert list(ui_links(runs_dir)) == []
    Tracker(made_up_study(**SMALL)).sync()
    ((name, links),) = ui_links(runs_dir, port=5123)
    assert name == "made-up"
    assert links["variants with verdicts"].startswith("http://127.0.0.1:5123/#/experiments/1/runs?")
