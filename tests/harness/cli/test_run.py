"""`optbench run` from the study file to the report, with real Ray, MLflow and Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PAGES = ("report/index.html", "report/results.csv", "analysis.json")


def optbench(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "harness", *map(str, arguments)]


def run(*arguments: object) -> str:
    done = subprocess.run(
        optbench(*arguments), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_a_study_runs_once_and_the_second_run_trains_nothing_and_rebuilds_the_same_report(
    study_file: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    first = run("run", study_file, "--runs-dir", runs, "--set", "resources.workers=2")
    assert "[6/6]" in first
    assert "muon" in first
    pages = {name: (runs / "tiny" / name).read_bytes() for name in PAGES}
    outcomes = {path: path.stat().st_mtime_ns for path in runs.glob("tiny/trials/*/outcome.json")}
    assert len(outcomes) == 6

    second = run("run", study_file, "--runs-dir", runs, "--set", "resources.workers=2")
    assert "nothing to train" in second
    assert {name: (runs / "tiny" / name).read_bytes() for name in PAGES} == pages
    assert {path: path.stat().st_mtime_ns for path in outcomes} == outcomes

    refused = subprocess.run(
        optbench("run", study_file, "--runs-dir", runs), capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "resources.workers (2 -> 1)" in refused.stderr
    status = json.loads(run("status", "tiny", "--runs-dir", runs, "--json"))
    assert {trial["state"] for trial in status["trials"].values()} == {"completed"}
    _check_tracking(runs)


def _check_tracking(runs: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{runs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=100)
    # One run of the study, one summary a variant, one run a trial.
    assert len(found) == 1 + 2 + 6


def _workers() -> set[int]:
    """Processes whose command line says that they are our gang's actors."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::Worker" in path.read_bytes():
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


def _wait_until(condition: Callable[[], bool], *, at_most_s: float) -> None:
    deadline = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def _heed_ctrl_c() -> None:
    """A shell starts its background jobs deaf to Ctrl-C, and their children inherit it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_ctrl_c_keeps_finished_trials_and_the_next_run_goes_on(
    study_file: Path, tmp_path: Path
) -> None:
    runs, before = tmp_path / "runs", _workers()
    arguments = ("run", study_file, "--runs-dir", runs, "--set", "training.steps=60")
    process = subprocess.Popen(
        optbench(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=_heed_ctrl_c,
    )
    finished = lambda: list(runs.glob("tiny/trials/*/outcome.json"))  # noqa: E731
    _wait_until(lambda: len(finished()) >= 1, at_most_s=300)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "run the same command again to go on" in output
    _wait_until(lambda: _workers() <= before, at_most_s=20)
    kept = {path: path.stat().st_mtime_ns for path in finished()}
    assert 1 <= len(kept) < 6

    run(*arguments)
    assert len(finished()) == 6
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
