"""The gang, Ray Tune and the files, with a real local Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.data import TokenDataset, prepare
from harness.runs.folder import StudyFolder
from harness.study.load import load_study
from harness.study.placement import CheckpointSettings, ResourcesConfig
from harness.study.plan import expand
from harness.study.trial import TrialSpec, trial_spec
from harness.training.records import Outcome, Report
from tune.driver import run_trials
from tune.gangs.gang import Gang, GangFailure
from tune.job import Job, Launch


class Listener:
    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def trial_started(self, job: Job) -> None:
        self.events.append(("started", job.key))

    def trial_reported(self, key: str, report: Report) -> None:
        self.events.append(("reported", key))

    def attempt_failed(self, key: str, cause: str) -> None:
        self.events.append(("attempt failed", key))

    def trial_ended(self, key: str, outcome: Outcome) -> None:
        self.events.append(("ended", key))

    def trial_given_up(self, key: str, cause: str) -> None:
        self.events.append(("given up", key))


def jobs(*specs: TrialSpec) -> list[Job]:
    return [Job(spec=spec, variants=("some",), detail=f"seed {spec.seed}") for spec in specs]


def specs_of(study_file: Path, *overrides: str) -> tuple[dict[str, TrialSpec], TokenDataset]:
    study = load_study(study_file, overrides)
    dataset = prepare(study.data)
    return expand(study, dataset.manifest.sha256), dataset


def without_times(reports: list[dict]) -> list[dict]:  # type: ignore[type-arg]
    measured = {"train_time_s", "step_time_s", "tokens_per_s", "evaluation_time_s"}
    measured |= {"startup_time_s", "peak_memory_bytes", "wall_time_s"}
    return [{k: v for k, v in r.items() if k not in measured} for r in reports]


def launched(folder: StudyFolder, dataset: TokenDataset, **resources: int) -> Launch:
    return Launch(
        folder=folder,
        dataset_path=dataset.path,
        resources=ResourcesConfig(**resources),
        checkpoints=CheckpointSettings(every_minutes=0),
    )


def begin_in(gang: Gang, spec: TrialSpec, dataset: TokenDataset) -> None:
    launch = launched(StudyFolder(Path("/no/study")), dataset, workers=2)
    (job,) = jobs(spec)
    gang.start(launch.config(job))


def train_in(gang: Gang, spec: TrialSpec, dataset: TokenDataset) -> list[dict]:  # type: ignore[type-arg]
    begin_in(gang, spec, dataset)
    answers = []
    while True:
        ((kind, answer),) = gang.advance().items()
        answers.append(answer)
        if kind == "outcome":
            return without_times(answers)


@pytest.fixture(scope="module")
def warm() -> Iterator[Gang]:
    """A gang that several tests train in, as it is meant to be used: it takes seconds to start."""
    gang = Gang(num_workers=2, cpus=1, gpus=0)
    yield gang
    gang.kill()


def test_a_warm_gang_gives_bit_for_bit_what_a_fresh_one_gives(warm: Gang, study_file: Path) -> None:
    specs, dataset = specs_of(study_file, "resources.workers=2")
    adamw, muon, *_ = specs.values()
    first = train_in(warm, muon, dataset)
    between = train_in(warm, adamw, dataset)
    process = psutil.Process(warm.places[1]["pid"])
    open_before = process.num_fds()
    again = train_in(warm, muon, dataset)
    train_in(warm, muon, dataset)
    assert process.num_fds() <= open_before + 2, "process groups of earlier trials are closed"
    fresh = Gang(num_workers=2, cpus=1, gpus=0)
    cold = train_in(fresh, adamw, dataset)
    fresh.kill()
    assert again == first
    assert between == cold


def test_a_stopped_trial_leaves_the_gang_ready_for_the_next(warm: Gang, study_file: Path) -> None:
    specs, dataset = specs_of(study_file, "resources.workers=2")
    spec = next(iter(specs.values()))
    whole = train_in(warm, spec, dataset)
    begin_in(warm, spec, dataset)
    warm.advance()
    assert train_in(warm, spec, dataset) == whole


def test_a_worker_that_dies_ends_the_wait_of_the_others(warm: Gang, study_file: Path) -> None:
    """The last test of the shared gang: nobody can train in it afterwards."""
    import ray

    specs, dataset = specs_of(study_file, "resources.workers=2")
    begin_in(warm, next(iter(specs.values())), dataset)
    warm.advance()
    ray.kill(warm.workers[1])
    with pytest.raises(GangFailure, match="died"):
        _exhaust(warm)


def _exhaust(gang: Gang) -> None:
    while "outcome" not in gang.advance():
        pass


def test_every_report_and_outcome_is_on_disk_and_observers_hear_of_it(
    study_file: Path, tmp_path: Path
) -> None:
    specs, dataset = specs_of(study_file, "seeds.confirmation=[0, 1, 2]")
    folder, listener = StudyFolder(tmp_path / "runs" / "tiny"), Listener()
    run_trials(
        jobs(*specs.values()),
        # More gangs at once only wait for a processor.
        launch=launched(folder, dataset, max_concurrent_trials=2),
        observers=[listener],
    )
    for key in specs:
        outcome = folder.trial(key).outcome()
        assert outcome is not None
        assert outcome.outcome == "completed"
        assert [report.step for report in folder.trial(key).reports()] == [0, 3, 6]
        assert [event for event, k in listener.events if k == key] == [
            "started",
            "reported",
            "reported",
            "reported",
            "ended",
        ]


def test_a_failing_trial_is_a_row_and_the_others_go_on(study_file: Path, tmp_path: Path) -> None:
    specs, dataset = specs_of(study_file)
    study = load_study(study_file)
    bad = trial_spec(study, study.variants[0], 99, dataset.manifest.sha256)
    # More sequences than the text has windows: the sampler refuses inside the worker.
    bad = bad.model_copy(update={"training": bad.training.model_copy(update={"batch_size": 10**9})})
    some = dict(list(specs.items())[:1])
    folder = StudyFolder(tmp_path / "runs" / "tiny")
    run_trials(
        jobs(bad, *some.values()),
        launch=launched(folder, dataset, max_concurrent_trials=1),
        observers=[],
    )
    failed, *others = [folder.trial(key).outcome() for key in (bad.key, *some)]
    assert failed is not None
    assert failed.outcome == "failed"
    assert failed.reason is not None
    assert "windows" in failed.reason
    assert all(outcome is not None and outcome.outcome == "completed" for outcome in others)


def test_a_diverging_trial_is_an_outcome_with_its_step(study_file: Path, tmp_path: Path) -> None:
    specs, dataset = specs_of(study_file, "training.divergence_loss=0.001")
    key, spec = next(iter(specs.items()))
    folder = StudyFolder(tmp_path / "runs" / "tiny")
    run_trials(
        jobs(spec),
        launch=launched(folder, dataset),
        observers=[],
    )
    outcome = folder.trial(key).outcome()
    assert outcome is not None
    assert (outcome.outcome, outcome.diverged_at_step, outcome.step) == ("diverged", 1, 3)
