"""`optbench run` from the study file to the report, with real Ray, MLflow and Ctrl-C.

One study goes through it all: interrupted, finished by the next run, run once more.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
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


@dataclass(frozen=True)
class Done:
    """What a run of the study left: what it printed, its pages, and when each outcome came."""

    printed: str
    pages: dict[str, bytes]
    outcomes: dict[Path, int]


@dataclass(frozen=True)
class Course:
    arguments: tuple[object, ...]
    runs: Path
    interrupted: Done
    exit_code: int
    orphans: set[int]
    finished: Done
    again: Done


@pytest.fixture(scope="module")
def course(study_text: str, tmp_path_factory: pytest.TempPathFactory) -> Course:
    """Ctrl-C after the first outcome of two workers a trial, then two runs with one worker each."""
    folder = tmp_path_factory.mktemp("study")
    file, runs = folder / "tiny.toml", folder / "runs"
    file.write_text(study_text.replace("workers = 1", "workers = 2"))
    arguments = ("run", file, "--runs-dir", runs, "--set", "training.steps=24")
    printed, exit_code, workers = _interrupted_after_the_first_outcome(arguments, runs)
    orphans = {process.pid for process in psutil.wait_procs(workers, timeout=20)[1]}
    interrupted = _done(printed, runs)
    elsewhere = (*arguments, "--set", "resources.workers=1")
    finished = _done(run(*elsewhere), runs)
    again = _done(run(*elsewhere), runs)
    return Course(arguments, runs, interrupted, exit_code, orphans, finished, again)


def _interrupted_after_the_first_outcome(
    arguments: tuple[object, ...], runs: Path
) -> tuple[str, int, list[psutil.Process]]:
    """What it printed, its exit code, and the workers that it had."""
    process = subprocess.Popen(
        optbench(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=_heed_ctrl_c,
    )
    deadline = time.monotonic() + 300
    while not list(runs.glob("tiny/trials/*/outcome.json")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
    workers = _workers_of(process)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    return printed, process.returncode, workers


def _heed_ctrl_c() -> None:
    """A shell starts its background jobs deaf to Ctrl-C, and their children inherit it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _done(printed: str, runs: Path) -> Done:
    study = runs / "tiny"
    return Done(
        printed,
        {name: (study / name).read_bytes() for name in PAGES if (study / name).exists()},
        {path: path.stat().st_mtime_ns for path in study.glob("trials/*/outcome.json")},
    )


def _workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Those of its descendants whose command line says that they are a gang's actors."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "ray::Worker" in " ".join(child.cmdline()):
                found.append(child)
    assert found, "a trial is being trained"
    return found


def test_ctrl_c_says_how_to_go_on_and_leaves_no_worker(course: Course) -> None:
    assert course.exit_code == 130, course.interrupted.printed
    assert "run the same command again to go on" in course.interrupted.printed
    assert not course.orphans


def test_the_next_run_keeps_the_finished_trials_and_trains_the_others(course: Course) -> None:
    kept, outcomes = course.interrupted.outcomes, course.finished.outcomes
    assert 1 <= len(kept) < 6
    assert len(outcomes) == 6
    assert {path: outcomes[path] for path in kept} == kept
    assert "[6/6]" in course.finished.printed
    assert "muon" in course.finished.printed


def test_a_run_of_a_finished_study_trains_nothing_and_rebuilds_the_same_report(
    course: Course,
) -> None:
    assert "nothing to train" in course.again.printed
    assert course.again.outcomes == course.finished.outcomes
    assert set(course.finished.pages) == set(PAGES)
    assert course.again.pages == course.finished.pages


def test_a_changed_study_is_refused_under_the_name_of_a_finished_one(course: Course) -> None:
    refused = subprocess.run(
        optbench(*course.arguments, "--set", "training.clip_norm=2.0"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert "training.clip_norm (1.0 -> 2.0)" in refused.stderr


def test_status_and_mlflow_know_every_trial(course: Course) -> None:
    import mlflow

    status = json.loads(run("status", "tiny", "--runs-dir", course.runs, "--json"))
    assert {trial["state"] for trial in status["trials"].values()} == {"completed"}
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{course.runs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=100)
    # One run of the study, one summary a variant, one run a trial.
    assert len(found) == 1 + 2 + 6
