"""What the machine does ends an attempt, and what the training does ends a trial: a real local Ray.

The faults come from an observer, which hears of every report before the workers go on.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from under_fire import trained_alone, without_times

from harness.data import TokenDataset, prepare
from harness.errors import StudyStopped
from harness.runs.attempts import AttemptBegan, AttemptEnded
from harness.runs.folder import StudyFolder, TrialFolder
from harness.study.load import load_study
from harness.study.placement import CheckpointSettings, ResourcesConfig
from harness.study.plan import expand
from harness.study.trial import TrialSpec
from harness.training.records import Outcome, Report
from tune.driver import run_trials
from tune.job import Job, Launch

OVERRIDES = ("training.steps=24", "training.evaluation_every=3")


@dataclass
class Fault:
    """Does something at the first report of a step, and takes note of what it is told."""

    at_step: int
    what: Callable[[TrialFolder], None]
    folder: StudyFolder
    key: str | None = None  # of the trial; None: of the first that comes there
    done: bool = False
    failed: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)

    def trial_started(self, job: Job) -> None: ...
    def trial_ended(self, key: str, outcome: Outcome) -> None: ...

    def trial_reported(self, key: str, report: Report) -> None:
        if report.step >= self.at_step and not self.done and self.key in (None, key):
            self.done = True
            self.what(self.folder.trial(key))

    def attempt_failed(self, key: str, cause: str) -> None:
        self.failed.append(cause)

    def trial_given_up(self, key: str, cause: str) -> None:
        self.given_up.append(cause)


@pytest.fixture
def tiny(study_file: Path) -> tuple[list[TrialSpec], TokenDataset]:
    study = load_study(study_file, OVERRIDES)
    dataset = prepare(study.data)
    return list(expand(study, dataset.manifest.sha256).values()), dataset


def job(spec: TrialSpec, variant: str = "some") -> Job:
    return Job(spec=spec, variants=(variant,), detail=f"seed {spec.seed}")


def launch(folder: StudyFolder, dataset_path: Path, **resources: Any) -> Launch:
    return Launch(
        folder=folder,
        dataset_path=dataset_path,
        resources=ResourcesConfig(**{"max_concurrent_trials": 1, **resources}),
        checkpoints=CheckpointSettings(every_steps=3),
    )


def signal_worker(number: signal.Signals) -> Callable[[TrialFolder], None]:
    def send(trial: TrialFolder) -> None:
        began = trial.attempts()[-1]
        assert isinstance(began, AttemptBegan)
        os.kill(began.places[-1].pid, number)

    return send


def ends(trial: TrialFolder) -> list[str]:
    return [event.end for event in trial.attempts() if isinstance(event, AttemptEnded)]


def results(trial: TrialFolder) -> tuple[Any, ...]:
    reports, outcome = trial.results()
    assert outcome is not None
    return without_times(outcome), *(without_times(report) for report in reports)


def test_a_worker_that_is_killed_or_stands_still_costs_an_attempt_and_changes_no_bit(
    tiny: tuple[list[TrialSpec], TokenDataset], tmp_path: Path
) -> None:
    """Gangs of one: nobody else notices. Gangs of two are in tests/faults."""
    (killed, stopped, *_), dataset = tiny
    folder = StudyFolder(tmp_path / "study")
    faults = {
        killed.key: Fault(9, signal_worker(signal.SIGKILL), folder, key=killed.key),
        stopped.key: Fault(9, signal_worker(signal.SIGSTOP), folder, key=stopped.key),
    }
    given_up = run_trials(
        [job(killed), job(stopped)],
        launch=launch(folder, dataset.path, heartbeat_timeout_s=2.0),
        observers=list(faults.values()),
    )
    assert given_up == {}
    for spec, end in ((killed, "worker_died"), (stopped, "hung")):
        trial = folder.trial(spec.key)
        assert ends(trial) == [end, "outcome"]
        (_, second) = (event for event in trial.attempts() if isinstance(event, AttemptBegan))
        assert second.resumed_step >= 6, "it went on from a checkpoint"
        assert results(trial) == trained_alone(spec, dataset)


def test_what_is_wrong_with_all_of_them_is_no_outcome_of_any(
    tiny: tuple[list[TrialSpec], TokenDataset], tmp_path: Path
) -> None:
    specs, dataset = tiny
    specs = [spec.model_copy(update={"data_sha256": "0" * 64}) for spec in specs]
    folder = StudyFolder(tmp_path / "study")
    jobs = [job(spec, f"variant {number % 2}") for number, spec in enumerate(specs)]
    with pytest.raises(StudyStopped, match="holds other tokens"):
        run_trials(jobs, launch=launch(folder, dataset.path), observers=[])
    trials = [folder.trial(spec.key) for spec in specs]
    assert not [trial for trial in trials if trial.outcome() is not None]
    assert 2 <= sum(len(ends(trial)) for trial in trials) <= 4, "not every trial was tried"


def test_a_trial_that_only_the_machine_ends_stays_open_and_the_next_run_goes_on(
    tiny: tuple[list[TrialSpec], TokenDataset], tmp_path: Path
) -> None:
    (first, second, *_), dataset = tiny
    folder = StudyFolder(tmp_path / "study")
    fault = Fault(9, signal_worker(signal.SIGKILL), folder)
    here = launch(folder, dataset.path, max_failures=1)
    given_up = run_trials([job(first), job(second)], launch=here, observers=[fault])
    assert list(given_up) == [first.key]
    assert "died" in given_up[first.key]
    assert len(fault.given_up) == 1
    assert folder.trial(first.key).outcome() is None
    assert folder.trial(second.key).outcome() is not None, "the others went on"
    assert run_trials([job(first)], launch=here, observers=[]) == {}
    assert ends(folder.trial(first.key)) == ["worker_died", "outcome"]


def test_a_person_or_the_clock_may_stop_a_trial_and_it_is_no_outcome(
    tiny: tuple[list[TrialSpec], TokenDataset], tmp_path: Path
) -> None:
    (first, *_), dataset = tiny
    folder = StudyFolder(tmp_path / "study")
    here = launch(folder, dataset.path)
    stop = Fault(6, lambda trial: trial.request_stop("the power goes off"), folder)
    given_up = run_trials([job(first)], launch=here, observers=[stop])
    assert given_up == {first.key: "the power goes off"}
    run_trials([job(first)], launch=here, observers=[], deadline=time.monotonic())
    trial = folder.trial(first.key)
    assert trial.outcome() is None
    run_trials([job(first)], launch=here, observers=[])
    assert ends(trial)[0] == "stopped"
    assert ends(trial)[-1] == "outcome"
    assert [report.step for report in trial.reports()] == list(range(0, 25, 3))
