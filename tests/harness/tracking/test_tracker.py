"""MLflow agrees with the files: runs, metrics, tags, artifacts, addresses."""

from __future__ import annotations

import math
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.study_analysis import analyse_study
from harness.analysis.study_results import load_results
from harness.report.write import write_report
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import load_plan
from harness.tracking import mlflow_store as store
from harness.tracking.batches import ENTITIES_PER_BATCH, PARAMS_PER_BATCH
from harness.tracking.metrics import CURVES, GROUPED, rounded
from harness.tracking.run_records import records, trial_record
from harness.tracking.tracker import Tracker, TrackingUnavailable, ui_command
from harness.tracking.ui_views import ui_links

Write = Callable[..., StudyFolder]
SMALL: dict[str, Any] = {"seeds": (0, 1, 2), "steps": 20, "every": 10}


def test_every_report_is_a_point_of_every_curve(made_up_study: Write, stored: Any) -> None:
    folder = made_up_study(**SMALL)
    Tracker(folder).sync()
    values = {(name, key, step): value for name, key, step, value in stored.points()}
    trial = load_results(folder).of("muon")[1]
    for report in trial.reports:
        numbers = {
            **{name: getattr(report, name) for name in CURVES},
            **{key: getattr(report, field) for field, key in GROUPED.items()},
            "counters/Newton-Schulz calls": report.counters["newton_schulz_calls"],
            "router/largest_share": max(max(layer) for layer in report.router_load),
        }
        for name, value in numbers.items():
            if value is not None:
                found = values["muon seed 1", name, report.step]
                assert found == pytest.approx(value, rel=1e-5)
        by_tokens = values["muon seed 1", "by_tokens/validation_loss", report.tokens]
        assert by_tokens == pytest.approx(report.validation_loss, rel=1e-5)
    assert values["muon seed 1", "final_validation_loss", 20] == pytest.approx(trial.loss, rel=1e-5)


def test_a_diverged_trial_shows_its_last_finite_loss_and_a_tag(
    eventful_study: StudyFolder,
) -> None:
    view = load_results(eventful_study)
    record = trial_record(view, view.of("muon-hot")[3])
    losses = [
        (step, value)
        for group in record.groups
        for key, value, step in group.values
        if key == "validation_loss"
    ]
    last = view.of("muon-hot")[3].reports[5].validation_loss
    assert last is not None
    assert losses[-1] == (50, rounded(last))
    assert record.tags["outcome"] == "diverged"
    assert record.tags["diverged"] == "60"
    assert not any(key == "final_validation_loss" for g in record.groups for key, _, _ in g.values)


def test_no_point_is_ever_nan_or_infinite(eventful_study: StudyFolder) -> None:
    for record in records(load_results(eventful_study)):
        for group in record.groups:
            assert all(math.isfinite(value) for _, value, _ in group.values)


def test_the_summary_holds_what_the_ui_cannot_compute(made_up_study: Write, stored: Any) -> None:
    folder = made_up_study(**SMALL)
    analysis = analyse_study(folder).analysis
    assert analysis is not None
    Tracker(folder).sync()
    comparison = analysis.comparisons[0]
    values = {key: value for name, key, _, value in stored.points() if name == "muon (summary)"}
    assert values["difference"] == pytest.approx(comparison.mean_difference, rel=1e-5)
    assert comparison.interval is not None
    assert values["difference/low"] == rounded(comparison.interval.low)
    assert values["adjusted_p"] == rounded(comparison.decisive_p)
    assert values["outcomes/completed"] == 3
    found = stored.tags("muon (summary)")
    assert found["verdict"] == comparison.verdict
    assert found["mlflow.note.content"] == comparison.sentence


def test_runs_are_nested_and_tagged(made_up_study: Write, stored: Any) -> None:
    folder = made_up_study(**SMALL)
    Tracker(folder).sync()
    found, plan = stored.tags("adamw seed 2"), load_plan(folder)
    assert found["study"] == "made-up"
    assert (found["variant"], found["seed"], found["phase"]) == ("adamw", "2", "confirmation")
    assert found["plan_sha256"] == plan.sha256
    assert found["outcome"] == "completed"
    assert len(found["initial_sha256"]) == len(found["batches_sha256"]) == 64
    parents = dict(
        stored.query(
            "SELECT r.name, p.name FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid AND "
            "t.key = 'mlflow.parentRunId' JOIN runs p ON p.run_uuid = t.value",
        )
    )
    assert parents["adamw seed 2"] == "adamw (summary)"
    assert parents["adamw (summary)"] == "made-up (study)"
    assert "made-up (study)" not in parents


def test_equal_variants_each_have_their_runs(made_up_study: Write, stored: Any) -> None:
    same = {"kind": "adamw", "lr": 0.004}
    Tracker(made_up_study(**SMALL, variants={"one": same, "two": same})).sync()
    by_name: dict[str, list[Any]] = {}
    for name, key, step, value in stored.points():
        by_name.setdefault(name, []).append((key, step, value))
    assert by_name["one seed 1"] == by_name["two seed 1"]


def test_every_length_of_the_baseline_is_a_run_of_its_own(made_up_study: Write) -> None:
    study = load_results(
        made_up_study(**SMALL | {"steps": 60}, analysis={"horizons": [30, 120, 240]})
    )
    found = {record.role: record.name for record in records(study) if record.key is not None}
    assert len(found) == len(study.trials) == 15
    assert found["trial/horizon/adamw/1/120"] == "adamw seed 1, 120 steps"
    assert found["trial/confirmation/adamw/1"] == "adamw seed 1"


def test_the_report_is_an_artifact_and_is_uploaded_once(made_up_study: Write, stored: Any) -> None:
    folder = made_up_study(**SMALL)
    page = write_report(analyse_study(folder))
    Tracker(folder).sync()
    (artifact,) = (stored.runs_dir / "mlartifacts" / "made-up").glob("*/artifacts/index.html")
    assert artifact.read_bytes() == page.read_bytes()
    assert (artifact.parent / "plan.json").exists()
    assert (artifact.parent / "forest.png").exists()
    artifact.unlink()
    Tracker(folder).sync()
    assert not artifact.exists(), "an unchanged report is not uploaded again"
    page.write_text("another page")
    Tracker(folder).sync()
    assert artifact.read_text() == "another page"


def test_large_studies_stay_below_the_limits_of_a_request(
    made_up_study: Write, stored: Any
) -> None:
    many = {f"adamw-{i}": {"kind": "adamw", "lr": 0.001 * (i + 1)} for i in range(19)}
    folder = made_up_study(seeds=(0,), variants=many, effects={}, steps=60, every=1)
    view = load_results(folder)
    study, *_, last = records(view)
    assert len(study.params) > PARAMS_PER_BATCH, "the test is about more than one request"
    assert sum(len(group.values) for group in last.groups) > ENTITIES_PER_BATCH
    for trial in view.trials[1:]:
        shutil.rmtree(folder.trial(trial.key).path)
    Tracker(folder).sync()
    assert stored.points() == stored.expected(folder)


def test_two_folders_with_the_same_study_do_not_mix(
    made_up_study: Write, made_up_class: Any, stored: Any, tmp_path: Path
) -> None:
    first = made_up_study(**SMALL)
    second = made_up_class(**SMALL).write(tmp_path / "elsewhere")
    uri = f"sqlite:///{stored.runs_dir / 'mlflow.db'}"
    Tracker(first, uri).sync()
    Tracker(second, uri).sync()
    Tracker(first, uri).sync()
    counts = Counter(name for (name,) in stored.query("SELECT name FROM runs"))
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


def test_a_deleted_experiment_is_not_brought_back(made_up_study: Write, stored: Any) -> None:
    folder = made_up_study(**SMALL)
    Tracker(folder).sync()
    client = store.open_client(f"sqlite:///{stored.runs_dir / 'mlflow.db'}")
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


def test_the_ui_has_an_address_for_every_study(made_up_study: Write, stored: Any) -> None:
    assert list(ui_links(stored.runs_dir / "nowhere")) == []
    assert list(ui_links(stored.runs_dir)) == []
    Tracker(made_up_study(**SMALL)).sync()
    ((name, links),) = ui_links(stored.runs_dir, port=5123)
    assert name == "made-up"
    assert links["variants with verdicts"].startswith("http://127.0.0.1:5123/#/experiments/1/runs?")
