"""Five hundred trials in one warm cluster: memory, descriptors and threads stay flat."""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from harness.data import prepare
from harness.runs.attempts import AttemptBegan
from harness.runs.folder import StudyFolder
from harness.study.load import load_study
from harness.study.plan import expand
from harness.training.records import Outcome, Report
from tune.cluster.connection import connect
from tune.driver import run_trials
from tune.job import Job, Launch

pytestmark = pytest.mark.faults

TRIALS, WARM, WINDOW = 500, 50, 25
AT_MOST = 1.05
STUDY = (
    "training.steps=2",
    "training.evaluation_every=2",
    "training.evaluation_windows=1",
    "checkpoints.every_steps=2",
    "resources.workers=2",
    "resources.max_concurrent_trials=1",
    f"seeds.confirmation={list(range(TRIALS // 2))}",
)


@dataclass
class Gauge:
    """What the driver and a worker occupy at the end of every trial."""

    folder: StudyFolder
    samples: dict[str, list[float]] = field(default_factory=dict)

    def trial_started(self, job: Job) -> None: ...
    def trial_reported(self, key: str, report: Report) -> None: ...
    def attempt_failed(self, key: str, cause: str) -> None: ...
    def trial_given_up(self, key: str, cause: str) -> None: ...

    def trial_ended(self, key: str, outcome: Outcome) -> None:
        assert outcome.outcome == "completed", outcome.reason
        (began,) = (e for e in self.folder.trial(key).attempts() if isinstance(e, AttemptBegan))
        for name, pid in (("driver", os.getpid()), ("worker", began.places[1].pid)):
            process = psutil.Process(pid)
            sizes = {
                "memory": process.memory_info().rss / 2**20,
                "descriptors": process.num_fds(),
                "threads": process.num_threads(),
            }
            for what, size in sizes.items():
                self.samples.setdefault(f"{name}: {what}", []).append(size)


def test_the_five_hundredth_trial_occupies_what_the_fiftieth_did(
    study_file: Path, tmp_path: Path
) -> None:
    import ray

    study = load_study(study_file, STUDY)
    dataset = prepare(study.data)
    folder = StudyFolder(tmp_path / "study")
    gauge = Gauge(folder)
    connect(None)
    try:
        given_up = run_trials(
            [
                Job(spec=spec, variants=("some",), detail=f"seed {spec.seed}")
                for spec in expand(study, dataset.manifest.sha256).values()
            ],
            launch=Launch(
                folder=folder,
                dataset_path=dataset.path,
                resources=study.resources,
                checkpoints=study.checkpoints,
            ),
            observers=[gauge],
        )
    finally:
        ray.shutdown()
    assert not given_up
    growth = {}
    for what, sizes in gauge.samples.items():
        assert len(sizes) == TRIALS
        before = statistics.median(sizes[WARM : WARM + WINDOW])
        after = statistics.median(sizes[-WINDOW:])
        growth[what] = after / before
        print(f"{what}: {before:.0f} after {WARM} trials, {after:.0f} after {TRIALS}")
    assert max(growth.values()) < AT_MOST, growth
