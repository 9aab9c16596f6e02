"""What Tune calls never waits for a disk, and nobody hears of what is not on it."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import StudyStopped, UserError
from harness.runs.attempts import AttemptBegan, AttemptEnded
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import freeze
from harness.runs.search_log import SearchLog
from harness.runs.suite_folder import SuiteFolder
from harness.study.load import load_study
from harness.study.plan import expand, make_plan
from harness.training.records import Outcome, Report
from tune.gangs.trainable import ATTEMPT, OUTCOME, REPORT
from tune.job import Job, Launch
from tune.recording import recorder as recorder_module
from tune.recording.breaker import Breaker
from tune.recording.recorder import Recorder
from tune.search.rounds import next_round
from tune.search.searcher import LoggedSearch

DATA = "0" * 64
AT = "2026-01-02T03:04:05+00:00"
STEPS = (0, 3, 6)


@pytest.fixture(autouse=True)
def local_ray() -> None:
    """None is needed here."""


@dataclass
class Disk:
    """What every fsync meets: it may stand still, be full after so many, or count."""

    works: threading.Event = field(default_factory=threading.Event)
    forced: int = 0
    full_after: int | None = None

    def fsync(self, _: int) -> None:
        assert self.works.wait(60)
        self.forced += 1
        if self.full_after is not None and self.forced > self.full_after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    disk.works.set()
    monkeypatch.setattr(os, "fsync", disk.fsync)
    yield disk
    disk.works.set()


@dataclass
class Listener:
    """Asserts of all that it hears that it is on disk."""

    folder: StudyFolder
    heard: list[tuple[str, str]] = field(default_factory=list)

    def trial_started(self, job: Job) -> None:
        self.heard.append((job.key, "started"))

    def trial_reported(self, key: str, report: Report) -> None:
        assert report in self.folder.trial(key).reports()
        self.heard.append((key, f"step {report.step}"))

    def attempt_failed(self, key: str, cause: str) -> None:
        assert self.folder.trial(key).attempts()[-1].event == "ended"
        self.heard.append((key, cause))

    def trial_ended(self, key: str, outcome: Outcome) -> None:
        assert self.folder.trial(key).outcome() == outcome
        self.heard.append((key, outcome.outcome))

    def trial_given_up(self, key: str, cause: str) -> None:
        self.heard.append((key, cause))

    def of(self, key: str) -> list[str]:
        return [what for whose, what in self.heard if whose == key]


class Run:
    """Trials as Ray Tune would report them, without it."""

    def __init__(
        self, study_file: Path, folder: StudyFolder, *, trials: int, proven: bool, task: str = ""
    ) -> None:
        study = load_study(study_file, [f"seeds.confirmation={list(range(max(3, trials)))}"])
        specs = list(expand(study, DATA).values())[:trials]
        self.jobs = {
            s.key: Job(spec=s, variants=("some",), detail=f"{s.seed}", task=task) for s in specs
        }
        self.keys, self.folder, self.listener = list(self.jobs), folder, Listener(folder)
        self.recorder = Recorder(
            folder,
            job_of=self.jobs.__getitem__,
            observers=[self.listener],
            breakers={"": Breaker(variants=["some"], proven=proven)},
        )
        self.launch = Launch(
            folder=folder,
            dataset_path=Path("data"),
            resources=study.resources,
            checkpoints=study.checkpoints,
            task=task,
        )
        self.trials = {
            key: SimpleNamespace(config={"trial": self.launch.config(job)}, get_error=str)
            for key, job in self.jobs.items()
        }

    def start(self, key: str) -> None:
        self.recorder.on_trial_start(0, [], self.trials[key])
        self.tell(key, ATTEMPT, AttemptBegan(**self.attempt(key), **PLACED))

    def attempt(self, key: str) -> dict[str, Any]:
        return {"attempt": self.trials[key].config["trial"]["attempt"], "at": AT}

    def tell(self, key: str, what: str, record: Any) -> None:
        self.recorder.on_trial_result(
            0, [], self.trials[key], {what: record.model_dump_json(), "config": {}}
        )

    def turn(self) -> None:
        """One of Tune's loop, once the disk has taken everything."""
        self.recorder.writer.flush(patience_s=60)
        self.recorder.on_step_begin(0, [])

    def complete(self, key: str) -> None:
        self.start(key)
        for step in STEPS:
            self.tell(key, REPORT, report(step))
        self.end(key, "completed")

    def end(self, key: str, word: str) -> None:
        result = {
            ATTEMPT: AttemptEnded(**self.attempt(key), end="outcome", step=6).model_dump_json(),
            OUTCOME: json.dumps({"outcome": word, "reason": word}),
        }
        self.recorder.on_trial_result(0, [], self.trials[key], result)
        self.recorder.on_trial_complete(0, [], self.trials[key])


PLACED: dict[str, Any] = {
    "workers": 1,
    "cpus_per_worker": 1,
    "gpus_per_worker": 0,
    "code_sha256": "c",
}
WHOLE = ["started", *(f"step {step}" for step in STEPS), "completed"]


def report(step: int) -> Report:
    zeros = dict.fromkeys(
        ("tokens", "validation_accuracy", "learning_rate", "train_time_s", "evaluation_time_s"), 0
    ) | dict.fromkeys(("startup_time_s", "peak_memory_bytes", "dead_experts"), 0)
    nulls = dict.fromkeys(("train_loss", "gradient_norm", "step_time_s", "tokens_per_s"))
    return Report.model_validate(
        {**zeros, **nulls, "step": step, "validation_loss": 3.0, "router_load": [], "counters": {}}
    )


@pytest.fixture
def run(study_file: Path, tmp_path: Path) -> Any:
    def begin(*, trials: int, proven: bool = True) -> Run:
        folder = StudyFolder(tmp_path / "study")
        return Run(study_file, folder, trials=trials, proven=proven)

    return begin


def test_a_disk_that_stands_still_holds_up_no_turn_of_the_loop_and_then_takes_all_in_order(
    run: Any, disk: Disk
) -> None:
    study = run(trials=20)
    disk.works.clear()
    for key in study.keys:
        study.complete(key)  # would never come back if it waited for the disk
        study.recorder.on_step_begin(0, [])
    assert {what for _, what in study.listener.heard} == {"started"}
    assert not list(study.folder.path.glob("trials/*/*.jsonl"))
    assert not study.recorder.wants_end()
    disk.works.set()
    study.recorder.close()
    for key in study.keys:
        assert study.listener.of(key) == WHOLE
        reports, outcome = study.folder.trial(key).results()
        assert [r.step for r in reports] == list(STEPS)
        assert outcome is not None
        assert outcome.outcome == "completed"
        assert [event.event for event in study.folder.trial(key).attempts()] == ["began", "ended"]
    assert disk.forced == 20 * (1 + 1 + len(STEPS) + 1 + 1), "spec, attempt, reports, end, outcome"


@pytest.mark.parametrize("full_after", [0, 1, 5, 17])
def test_a_disk_that_fills_up_ends_the_run_and_what_was_told_is_a_beginning_of_what_came(
    run: Any, disk: Disk, full_after: int
) -> None:
    study = run(trials=5)
    disk.full_after = full_after
    for key in study.keys:
        study.complete(key)
        study.turn()
    assert study.recorder.wants_end()
    assert isinstance(study.recorder.fault, StudyStopped)
    assert f"cannot write {study.folder.path}/trials/" in str(study.recorder.fault)
    assert "No space left on device: make room there" in str(study.recorder.fault)
    study.recorder.close()
    assert disk.forced == full_after + 1, "nothing is written after a gap"
    written = sum(
        len(study.folder.trial(key).reports())
        + len(study.folder.trial(key).attempts())
        + (study.folder.trial(key).spec() is not None)
        + (study.folder.trial(key).outcome() is not None)
        for key in study.keys
    )
    assert written == full_after
    for key in study.keys:
        assert study.listener.of(key) == WHOLE[: len(study.listener.of(key))]


def test_a_disk_that_never_answers_is_said_at_the_end(
    run: Any, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "PATIENCE_S", 0.1)
    study = run(trials=1)
    disk.works.clear()
    study.complete(study.keys[0])
    with pytest.raises(StudyStopped, match=r"has taken nothing for .* records are not written"):
        study.recorder.close()


def test_an_attempt_that_is_under_way_at_the_end_is_closed(run: Any) -> None:
    study = run(trials=1)
    (key,) = study.keys
    study.start(key)
    study.tell(key, REPORT, report(0))
    study.recorder.close()
    assert [r.step for r in study.folder.trial(key).reports()] == [0]
    assert study.folder.trial(key).attempts()[-1].cause == "the run was interrupted"


@pytest.mark.parametrize("trains", [False, True])
def test_a_failure_is_an_outcome_only_once_something_has_trained(run: Any, trains: bool) -> None:
    study = run(trials=2, proven=False)
    bad, good = study.keys
    study.start(bad)
    study.end(bad, "failed")
    study.turn()
    study.turn()
    assert study.folder.trial(bad).outcome() is None
    study.start(good)
    study.tell(good, REPORT, report(3 if trains else 0))
    study.recorder.close()
    assert (study.folder.trial(bad).outcome() is not None) is trains
    assert (study.recorder.fault is None) is trains


def test_a_task_whose_trials_all_fail_alike_is_set_aside_and_the_others_go_on(
    study_file: Path, tmp_path: Path
) -> None:
    """Nothing of it becomes an outcome; what still runs of it is stopped and heard no more."""
    suite = SuiteFolder(tmp_path / "suite")
    bad, good = (
        Run(study_file, suite.task(name), trials=4, proven=False, task=name)
        for name in ("bad", "good")
    )
    jobs = {job.id: job for run in (bad, good) for job in run.jobs.values()}
    recorder = Recorder(
        suite,
        job_of=jobs.__getitem__,
        observers=[],
        breakers={name: Breaker(variants=["some"], proven=False) for name in ("bad", "good")},
    )
    bad.recorder = good.recorder = recorder
    first, second, third, last = bad.keys
    for key in (last, first, second, third):
        bad.start(key)
    for key in (first, second, third):
        failed = AttemptEnded(**bad.attempt(key), end="error", cause="no such file", signature="x")
        bad.tell(key, ATTEMPT, failed)
    bad.turn()
    assert isinstance(recorder.fault_of("bad"), StudyStopped)
    assert recorder.fault_of("good") is None
    assert not recorder.wants_end()
    asked = {
        name: recorder.wants_stop("", {"config": run.trials[run.keys[3]].config})
        for name, run in (("bad", bad), ("good", good))
    }
    assert asked == {"bad": True, "good": False}
    bad.end(last, "completed")
    good.complete(good.keys[0])
    recorder.close()
    assert [event.end for event in suite.task("bad").trial(last).attempts()[1:]] == ["stopped"]  # type: ignore[union-attr]
    assert all(suite.task("bad").trial(key).outcome() is None for key in bad.keys)
    outcome = suite.task("good").trial(good.keys[0]).outcome()
    assert outcome is not None
    assert outcome.outcome == "completed"
    assert recorder.fault is None, "another task has trained"


def test_a_trial_that_goes_on_is_told_how_far_it_came_and_what_it_reports_again_is_dropped(
    run: Any, disk: Disk
) -> None:
    study = run(trials=1)
    (key,) = study.keys
    disk.works.clear()
    study.start(key)
    for step in (0, 3):
        study.tell(key, REPORT, report(step))
    died = AttemptEnded(**study.attempt(key), end="worker_died", cause="killed", step=4)
    study.tell(key, ATTEMPT, died)
    study.recorder.on_trial_recover(0, [], study.trials[key])
    config = study.trials[key].config["trial"]
    assert (config["attempt"], config["reported_step"]) == (2, 3)
    assert [earlier["cause"] for earlier in config["earlier"]] == ["killed"]
    disk.works.set()
    study.complete(key)
    study.recorder.close()
    assert [r.step for r in study.folder.trial(key).reports()] == [0, 3, 6]
    assert study.listener.of(key) == [
        "started",
        "step 0",
        "step 3",
        "killed",
        "step 6",
        "completed",
    ]


def test_a_person_who_asks_is_heard_between_reports(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "LOOK_FOR_STOPS_S", 0.0)
    study = run(trials=2)
    key, other = study.keys
    for each in study.keys:
        study.start(each)
    study.turn()
    study.folder.trial(key).request_stop("the power goes off")
    for _ in range(4):
        study.turn()
    asked = {
        k: study.recorder.wants_stop("", {"config": study.trials[k].config}) for k in study.keys
    }
    assert asked == {key: True, other: False}
    study.recorder.on_trial_complete(0, [], study.trials[key])
    study.recorder.close()
    assert study.listener.of(key) == ["started", "the power goes off"]
    assert not study.folder.trial(key).stop_path.exists()
    assert study.folder.trial(key).outcome() is None


def test_a_damaged_file_ends_the_run_by_its_name(run: Any) -> None:
    study = run(trials=1)
    path = study.folder.trial(study.keys[0]).attempts_path
    path.parent.mkdir(parents=True)
    path.write_text("nonsense\n")
    study.start(study.keys[0])
    study.recorder.close()
    assert isinstance(study.recorder.fault, UserError)
    assert str(path) in str(study.recorder.fault)


def test_a_search_draws_on_only_when_it_has_been_told_what_is_on_disk(
    searched_file: Path, tmp_path: Path, disk: Disk
) -> None:
    study = load_study(searched_file, ["tuning.trials=3"])
    folder = StudyFolder(tmp_path / "study")
    freeze(folder, make_plan(study, DATA), source=searched_file)
    current = next_round(study, folder)
    assert current is not None
    launch = Launch(
        folder=folder,
        dataset_path=Path("data"),
        resources=study.resources,
        checkpoints=study.checkpoints,
    )
    search = LoggedSearch(study, current, data_sha256=DATA, launch=launch, worst_loss=6.0)
    recorder = Recorder(
        folder,
        job_of=search.jobs.__getitem__,
        observers=[search],
        breakers={"": Breaker(variants=search.variants, proven=True)},
    )
    search.write, search.has_told_ends = recorder.write, recorder.has_told_ends
    disk.works.clear()
    first, second = search.suggest("1"), search.suggest("2")
    assert isinstance(first, dict), "nothing has ended: nothing to wait for"
    assert isinstance(second, dict)
    trial = SimpleNamespace(config=first)
    recorder.on_trial_start(0, [], trial)
    recorder.on_trial_result(0, [], trial, {OUTCOME: json.dumps({"outcome": "completed"})})
    search.on_trial_complete("1")
    assert search.suggest("3") is None, "the other one runs, and must not be held up"
    search.on_trial_complete("2", error=True)
    release = threading.Timer(0.2, disk.works.set)
    release.start()
    assert isinstance(search.suggest("3"), dict), "nothing else runs: it waits for the disk"
    recorder.close()
    events = [event.event for event in SearchLog(folder.path).events()]
    assert events == ["suggested", "suggested", "ended", "suggested"]
