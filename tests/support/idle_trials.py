"""Trials that occupy their room on a real cluster and train nothing, for scripts of tests.

The gangs' places, Ray Tune, the files and the driver are the real ones; only `tune.gangs.trainable`
is left out, whose workers would import torch.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray import tune as ray_tune

import tune.driver
from harness.runs.folder import StudyFolder
from harness.study.load import load_study
from harness.study.placement import CheckpointSettings
from harness.study.plan import expand
from harness.training.records import Outcome, Report
from tune.gangs.trainable import ATTEMPT, OUTCOME
from tune.job import Job, Launch
from tune.recording.recorder import Recorder

SECONDS = 0.4  # of one trial
TIMEOUT_S = 280


class Idle(ray_tune.Trainable):  # type: ignore[misc]
    def setup(self, config: dict[str, Any]) -> None:
        self.trial, self.steps = config["trial"], 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        self.steps += 1
        event = {"attempt": self.trial["attempt"], "at": "2026-01-01T00:00:00+00:00"}
        if self.steps == 1:
            shape = {"workers": 1, "cpus_per_worker": 1, "gpus_per_worker": 0}
            return {ATTEMPT: json.dumps({"event": "began", **event, **shape})}
        time.sleep(SECONDS)
        ended = {"event": "ended", **event, "end": "outcome"}
        return {
            ATTEMPT: json.dumps(ended),
            OUTCOME: json.dumps({"outcome": "completed"}),
            ray_tune.result.DONE: True,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None: ...
    def load_checkpoint(self, checkpoint: Any) -> None: ...


cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Watch:
    """Counts the trials that are under way at once, and what was said.

    Args:
        act: called with this after every trial's end.
    """

    def __init__(self, act: Callable[[Watch], None] = lambda watch: None) -> None:
        self.act = act
        self.under_way = 0
        self.ended = 0
        self.peak = 0  # since the last `fresh`
        self.since = 0  # trials ended since then
        self.said: list[str] = []

    def fresh(self) -> None:
        self.peak, self.since = self.under_way, 0

    def say(self, what: str) -> None:
        self.said.append(what)

    def stop(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def saw(self, under_way: int) -> None:
        """As it comes in: observers are told of an end when it is on disk, and the next runs."""
        self.under_way, self.peak = under_way, max(self.peak, under_way)

    def trial_started(self, job: Job) -> None: ...
    def trial_reported(self, key: str, report: Report) -> None: ...
    def attempt_failed(self, key: str, cause: str) -> None: ...
    def trial_given_up(self, key: str, cause: str) -> None: ...

    def trial_ended(self, key: str, outcome: Outcome) -> None:
        self.ended += 1
        self.since += 1
        self.act(self)


def end_in_time() -> None:
    """So that a script that hangs still takes its cluster along."""
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("it took too long"))
    signal.alarm(TIMEOUT_S - 40)


def answer_of(script: Path, *arguments: object) -> Any:
    """What a script prints last, as JSON, run in a process of its own."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    # Not the address and the token of the Ray of these tests.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_A")}
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**environment, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    answers = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert answers, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(answers[-1])  # Ray itself may have the last word


def train_idly(
    study_file: Path, runs: Path, watch: Watch, *, trials: int, **resources: Any
) -> None:
    """Until all are done or `watch.stop` is called."""

    as_ever = Recorder.on_trial_result

    def watched(recorder: Recorder, *arguments: Any, **options: Any) -> None:
        as_ever(recorder, *arguments, **options)
        watch.saw(len(recorder.attempts))

    Recorder.on_trial_result = watched  # type: ignore[method-assign]
    tune.driver.TrialTrainable = Idle
    study = load_study(study_file, [f"seeds.confirmation={list(range((trials + 1) // 2))}"])
    specs = list(expand(study, "0" * 64).values())[:trials]
    settings = study.resources.model_copy(update=resources)
    with suppress(KeyboardInterrupt):
        tune.driver.run_trials(
            [Job(spec=spec, variants=("some",), detail=f"seed {spec.seed}") for spec in specs],
            launch=Launch(
                folder=StudyFolder(runs),
                dataset_path=Path("/nowhere"),
                resources=settings,
                checkpoints=CheckpointSettings(every_minutes=0),
            ),
            observers=[watch],
            say=watch.say,
        )
