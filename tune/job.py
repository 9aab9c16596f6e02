"""A training run that is placed on the cluster: what Ray's configuration of a trial holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.runs.attempts import AttemptBegan, endings_by
from harness.runs.folder import StudyFolder
from harness.study.code_version import code_sha256, code_version
from harness.study.placement import CheckpointSettings, ResourcesConfig
from harness.study.trial import PLACEMENT, TrialSpec
from tune.delivery.driver_files import Driver, introduce


@dataclass(frozen=True, kw_only=True)
class Job:
    """A spec with what a person calls it and the variants that it stands for.

    `comparable` is whether its final loss may stand beside those of the other variants: at another
    length it may not. `planned_key` is the trial's key in a plan of an older version, `task` the
    name of its task where several are trained together.
    """

    spec: TrialSpec
    variants: tuple[str, ...]
    detail: str
    comparable: bool = True
    planned_key: str | None = None
    task: str = ""

    @property
    def key(self) -> str:
        return self.planned_key or self.spec.key

    @property
    def id(self) -> str:
        """What it is called among all jobs of a run: two tasks may hold the same trial."""
        return job_id(self.task, self.key)

    @property
    def name(self) -> str:
        task = f"{self.task}: " if self.task else ""
        return f"{task}{' = '.join(self.variants)} {self.detail}"


def job_id(task: str, key: str) -> str:
    return f"{task}/{key}" if task else key


def task_of(job_id: str) -> str:
    """Empty where one study is trained alone."""
    return job_id.rpartition("/")[0]


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What all trials of a run have in common: where they are trained, read from and written to."""

    folder: StudyFolder
    dataset_path: Path
    resources: ResourcesConfig
    checkpoints: CheckpointSettings
    task: str = ""

    @cached_property
    def driver(self) -> Driver:
        """Where workers find the data and this folder, on whatever host they are."""
        return introduce(dataset_path=self.dataset_path.absolute(), study=self.folder.path)

    def config(self, job: Job) -> dict[str, Any]:
        """Plain values: the actor that holds a gang does without torch, so without our types."""
        trial = self.folder.trial(job.key)
        events, reports = trial.attempts(), trial.reports()
        numbers = [event.attempt for event in events if isinstance(event, AttemptBegan)]
        earlier = endings_by(code_sha256(), events)
        context = self.checkpoints.for_workers(trial.checkpoints_path, study=self.folder.name)
        return {
            "key": job.key,
            "task": self.task,
            "variant": job.variants[0],
            "spec": job.spec.model_dump(mode="json"),
            "driver": self.driver,
            "resources": {name: getattr(self.resources, name) for name in PLACEMENT},
            "context": context,
            "ports": self.resources.ports,
            "heartbeat_timeout_s": self.resources.heartbeat_timeout_s,
            "attempt": max(numbers, default=0) + 1,
            "reported_step": max((report.step for report in reports), default=-1),
            "earlier": [ended.model_dump(mode="json") for ended in earlier],
            "code_sha256": code_sha256(),
            "code_version": code_version(),
        }
