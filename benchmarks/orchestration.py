"""What a trial costs besides training: warm gang, cold gang, and the first step of a study.

    python benchmarks/orchestration.py            # 2 workers a trial
    python benchmarks/orchestration.py --json

A trial of one step of the smallest model stands for one that trains nothing. Warm: the mean time
from the end of one trial to the end of the next in the same gang; what the trial itself takes in
its workers (process group, model, hashes, one step, two evaluations of one window) is also shown,
and the rest is orchestration. Cold: the same when every trial gets a fresh gang. Start: from the
command line `optbench run` to the first training step, with the data cached and evaluations of one
window; the median of several starts, and of each stage on the way.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from harness.data import prepare
from harness.runs.folder import StudyFolder
from harness.study.load import load_study
from harness.study.plan import expand
from harness.training.records import Outcome, Report
from tune.job import Job, Launch

STUDY = Path(__file__).parent.parent / "studies" / "quickstart.toml"
NOTHING = (
    "model.hidden_size=16",
    "model.num_heads=2",
    "model.num_layers=1",
    "model.feed_forward_size=16",
    "training.steps=1",
    "training.evaluation_windows=1",
    "training.schedule.warmup_steps=0",
)


class Ends:
    """When trials ended, and how long they took by their own clock."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.own_times: list[float] = []

    def trial_started(self, job: Job) -> None: ...
    def attempt_failed(self, key: str, cause: str) -> None: ...
    def trial_given_up(self, key: str, cause: str) -> None: ...
    def trial_reported(self, key: str, report: Report) -> None: ...
    def trial_ended(self, key: str, outcome: Outcome) -> None:
        assert outcome.outcome == "completed", outcome.reason
        self.times.append(time.perf_counter())
        self.own_times.append(outcome.wall_time_s or 0.0)


def seconds_per_trial(workers: int, *, trials: int, warm: bool) -> tuple[float, float]:
    """Mean time between two ends, and the part of it that the trial itself takes."""
    from tune.driver import run_trials

    seeds = list(range(trials))
    study = load_study(
        STUDY, [*NOTHING, f"resources.workers={workers}", f"seeds.confirmation={seeds}"]
    )
    dataset = prepare(study.data)
    ends = Ends()
    with tempfile.TemporaryDirectory() as folder:
        run_trials(
            [
                Job(spec=spec, variants=("adamw",), detail=f"seed {spec.seed}")
                for spec in expand(study, dataset.manifest.sha256).values()
            ],
            launch=Launch(
                folder=StudyFolder(Path(folder)),
                dataset_path=dataset.path,
                resources=study.resources.model_copy(update={"max_concurrent_trials": 1}),
                checkpoints=study.checkpoints,
            ),
            observers=[ends],
            reuse_gangs=warm,
        )
    following = len(ends.times) - 1
    return (ends.times[-1] - ends.times[0]) / following, sum(ends.own_times[1:]) / following


STAGES = ("study planned", "Ray there", "workers there", "first evaluation", "first step")


def seconds_of_a_start(workers: int) -> dict[str, float]:
    """From the start of the command until each of `STAGES` is over, as the files and words say."""
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "harness", "run", str(STUDY), "--runs-dir", runs]
        for override in (
            f"resources.workers={workers}",
            "training.evaluation_every=1",
            "training.evaluation_windows=1",
        ):
            command += ["--set", override]
        begin, ends = time.perf_counter(), dict[str, float]()
        words = Path(runs) / "words"
        with words.open("w") as output:
            process = subprocess.Popen(
                command, stdout=output, env={**os.environ, "PYTHONUNBUFFERED": "1"}
            )
        try:
            while process.poll() is None:
                for stage in STAGES[len(ends) :]:
                    if not _is_over(stage, Path(runs), words):
                        break
                    ends[stage] = time.perf_counter() - begin
                if len(ends) == len(STAGES):
                    return ends
                time.sleep(0.02)
        finally:
            # As Ctrl-C: the driver then takes its Ray along.
            process.send_signal(signal.SIGINT)
            process.wait()
    raise SystemExit("the study ended before its first step")


def _is_over(stage: str, runs: Path, words: Path) -> bool:
    if stage == "study planned":
        return any(runs.glob("*/plan.json"))
    if stage == "Ray there":
        return "Ray is there" in words.read_text()
    if stage == "workers there":
        return any(runs.glob("*/trials/*/spec.json"))
    wanted = 1 if stage == "first evaluation" else 2
    reports = runs.glob("*/trials/*/reports.jsonl")
    return any(path.read_text().count("\n") >= wanted for path in reports)


def median_start(workers: int, *, starts: int) -> dict[str, float]:
    measured = [seconds_of_a_start(workers) for _ in range(starts)]
    return {stage: statistics.median(each[stage] for each in measured) for stage in STAGES}


def main(
    workers: Annotated[int, typer.Option(help="workers of a trial")] = 2,
    starts: Annotated[int, typer.Option(help="starts of a whole study")] = 5,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    from tune.cluster.connection import connect

    prepare(load_study(STUDY, []).data)
    start = median_start(workers, starts=starts)
    connect(None)
    warm, own = seconds_per_trial(workers, trials=10, warm=True)
    cold, _ = seconds_per_trial(workers, trials=2, warm=False)
    if as_json:
        result = {"workers": workers, "warm_s": warm, "trial_s": own, "orchestration_s": warm - own}
        print(json.dumps({**result, "cold_s": cold, "start_s": start}))
        return
    print(
        f"with {workers} workers: {warm:.2f} s a trial in a warm gang, of which the trial itself "
        f"takes {own:.2f} s and orchestration {warm - own:.2f} s"
    )
    print(f"{cold:.2f} s a trial in a fresh gang: ratio {cold / warm:.1f}")
    print(f"from the command to the first training step: {start[STAGES[-1]]:.1f} s, of these")
    begun = 0.0
    for stage, end in start.items():
        print(f"  {end - begun:4.1f} s until {stage}")
        begun = end


if __name__ == "__main__":
    typer.run(main)
