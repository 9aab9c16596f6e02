"""A real `optbench run` in a process of its own, the processes it starts, and what it leaves."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from harness.data import TokenDataset
from harness.runs.attempts import AttemptBegan, AttemptEnded, WorkerPlace
from harness.runs.folder import StudyFolder, TrialFolder
from harness.runs.plan_file import load_plan
from harness.study.trial import TrialSpec
from harness.training.backends.protocol import WorkerContext
from harness.training.loop import train
from harness.training.records import Outcome, Report

TIMES = frozenset(
    {
        "train_time_s",
        "step_time_s",
        "tokens_per_s",
        "evaluation_time_s",
        "startup_time_s",
        "checkpoint_time_s",
        "peak_memory_bytes",
        "wall_time_s",
    }
)
"""What no two runs have alike."""

AT_MOST_S = 300.0


@dataclass
class StudyProcess:
    """`optbench run FILE --runs-dir RUNS ..`, started at once; killed with all it started at exit.

    Args:
        options: more arguments.
        environment: more variables.
    """

    file: Path
    runs: Path
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.seen: dict[int, psutil.Process] = {}
        command = [sys.executable, "-m", "harness", "run", str(self.file)]
        self.output = self.runs.parent / f"{self.runs.name}.{time.monotonic_ns()}.txt"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*command, "--runs-dir", str(self.runs), *self.options],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.environment},
            )

    def __enter__(self) -> StudyProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.look()
        for process in self.seen.values():
            if process.is_running():
                process.kill()
        self.process.kill()
        self.process.wait()

    @property
    def printed(self) -> str:
        return self.output.read_text(errors="replace")

    def look(self) -> None:
        """Takes note of every process that it has started."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        self.seen |= {child.pid: child for child in children}

    def until(self, condition: Callable[[], Any], *, ends: bool = False) -> Any:
        """Waits for a true value; fails with what was printed if the process ends before."""
        begun = time.monotonic()
        while not (found := condition()):
            self.look()
            assert ends or self.process.poll() is None, self.printed[-4000:]
            assert time.monotonic() - begun < AT_MOST_S, self.printed[-4000:]
            time.sleep(0.02)
        return found

    def wait(self) -> int:
        self.until(lambda: self.process.poll() is not None, ends=True)
        return int(self.process.returncode)

    def worker_at(self, *, step: int, rank: int) -> tuple[str, WorkerPlace]:
        """Waits for a worker of its own in a trial that has reported `step` and has more to do.

        An attempt of an earlier driver that died has no end in the files.
        """

        def ours() -> tuple[str, WorkerPlace] | None:
            found = worker_at(self.runs, step=step, rank=rank)
            return found if found is not None and found[1].pid in self.seen else None

        found: tuple[str, WorkerPlace] = self.until(ours)
        return found

    def kill(self) -> None:
        """The driver alone, by SIGKILL: nobody tells the others."""
        self.look()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def left_alive(self, at_most_s: float = 60.0) -> list[str]:
        """Processes that outlive the driver for so long.

        Ray's agent of environments is not among them: it tells the dead first, and gives up after
        a minute.
        """
        begun, alive = time.monotonic(), self._alive()
        while alive and time.monotonic() - begun < at_most_s:
            time.sleep(0.1)
            alive = self._alive()
        return alive

    def _alive(self) -> list[str]:
        lines = []
        for process in self.seen.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    lines.append(" ".join(process.cmdline()))
        return [
            line for line in lines if "RuntimeEnvAgent" not in line and "runtime_env" not in line
        ]


def study_folder(runs: Path) -> StudyFolder | None:
    plans = list(runs.glob("*/plan.json"))
    return StudyFolder(plans[0].parent) if plans else None


def open_attempts(runs: Path) -> Iterator[tuple[str, AttemptBegan, int]]:
    """Trials that are being trained: key, attempt, and the last step reported (-1: none)."""
    for path in runs.glob("*/trials/*/attempts.jsonl"):
        trial = StudyFolder(path.parents[2]).trial(path.parent.name)
        events = trial.attempts()
        if events and isinstance(events[-1], AttemptBegan):
            yield path.parent.name, events[-1], max((r.step for r in trial.reports()), default=-1)


def worker_at(runs: Path, *, step: int, rank: int) -> tuple[str, WorkerPlace] | None:
    """The worker of a trial that has reported `step` and has more to do, with the trial's key."""
    for key, began, reported in open_attempts(runs):
        if reported >= step and began.places:
            return key, began.places[rank]
    return None


def next_attempt(runs: Path, key: str, *, after: float) -> float:
    """When the trial (`*`: any) was tried again, in seconds since 1970 (whole ones)."""
    begun = (
        datetime.fromisoformat(event.at).timestamp()
        for path in runs.glob(f"*/trials/{key}")
        for event in TrialFolder(path).attempts()
        if isinstance(event, AttemptBegan)
    )
    return min((at for at in begun if at >= after - 1.0), default=after)


@dataclass(frozen=True)
class Left:
    """What a study left of every trial, by variant and seed, without what no two runs share."""

    outcomes: dict[tuple[str, int], dict[str, Any]]
    reports: dict[tuple[str, int], list[dict[str, Any]]]


def left(runs: Path) -> Left:
    folder = study_folder(runs)
    assert folder is not None
    outcomes, reports = {}, {}
    for row in load_plan(folder).trials:
        trial, place = folder.trial(row.key), (row.variant, row.seed)
        outcome = trial.outcome()
        assert outcome is not None, f"{place} has no outcome"
        outcomes[place] = without_times(outcome)
        reports[place] = [without_times(report) for report in trial.reports()]
    return Left(outcomes, reports)


def without_times(record: Outcome | Report) -> dict[str, Any]:
    return record.model_dump(mode="json", exclude=set(TIMES))


def trained_alone(spec: TrialSpec, dataset: TokenDataset) -> tuple[dict[str, Any], ...]:
    """The outcome and the reports of one process without Ray, without what no two runs share."""
    training, reports = train(spec, WorkerContext(dataset.path)), []
    while True:
        try:
            reports.append(without_times(next(training)))
        except StopIteration as end:
            return without_times(end.value), *reports


def failures(runs: Path) -> list[AttemptEnded]:
    """Attempts that did not end with the training, in no order."""
    return [
        event
        for path in runs.glob("*/trials/*/attempts.jsonl")
        for event in StudyFolder(path.parents[2]).trial(path.parent.name).attempts()
        if isinstance(event, AttemptEnded) and event.end != "outcome"
    ]
