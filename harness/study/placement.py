"""Where trials run and where their state is kept: no part of what a trial is, nor of the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from harness.study.record import Record


class ResourcesConfig(Record):
    """What one trial occupies."""

    workers: int = Field(default=1, ge=1, description="processes of one trial (its gang)")
    cpus_per_worker: int = Field(default=1, ge=1, description="CPU cores (threads) of one worker")
    gpus_per_worker: float = Field(
        default=0,
        ge=0,
        le=1,
        description="0: CPU with gloo; 1: one CUDA device with NCCL; a fraction such as 0.25: "
        "trials of one worker that share a device and its memory",
    )
    ports: tuple[int, int] = Field(
        default=(20_000, 31_999),
        description="first and last of the TCP ports at which the workers of a trial meet, one a "
        "trial; the connections between them get theirs from the system",
    )
    max_failures: int = Field(
        default=3,
        ge=1,
        description="attempts of a trial that its machines may end before this run gives it up; "
        "the next run tries again",
    )
    heartbeat_timeout_s: float = Field(
        default=30.0,
        ge=1.0,
        description="seconds without a sign of life after which an attempt is ended as hung: of a "
        "worker that does not answer, or of a gang that stands still (there at least, and at least "
        "20 times its longest step)",
    )
    placement: Literal["pack", "spread", "strict_pack"] = Field(
        default="pack",
        description="pack: a trial's workers on as few nodes as there is room on; spread: on as "
        "many nodes as possible; strict_pack: all on one node, or the trial waits for one",
    )
    max_concurrent_trials: int | None = Field(
        default=None,
        ge=1,
        description="trials at the same time, at most; none: as many as fit, also while the "
        "cluster grows or shrinks, and a fair share of it beside other studies",
    )

    @field_validator("ports")
    @classmethod
    def _is_a_range(cls, ports: tuple[int, int]) -> tuple[int, int]:
        if not 1024 <= ports[0] <= ports[1] <= 65_535:
            raise ValueError(
                f"{list(ports)} is no range of ports: give the first and the last one, from 1024 "
                "to 65535, such as [20000, 31999]"
            )
        return ports

    @model_validator(mode="after")
    def _shares_a_gpu_alone(self) -> Self:
        if 0 < self.gpus_per_worker < 1 and self.workers > 1:
            raise ValueError(
                f"gpus_per_worker is {self.gpus_per_worker:g} with {self.workers} workers: NCCL "
                "needs a GPU for every worker of a trial; write gpus_per_worker = 1 or workers = 1"
            )
        return self


class CheckpointSettings(Record):
    """When a trial keeps its state, so that a machine that fails costs minutes and no trial.

    No part of what a trial is: a trial that goes on from a checkpoint has the numbers of one that
    was never disturbed.
    """

    every_minutes: float = Field(
        default=10.0,
        ge=0.0,
        allow_inf_nan=False,
        description="minutes after which the next evaluation is followed by a checkpoint; 0: not "
        "by the clock (with no `every_steps` either: no checkpoints, a trial that is disturbed "
        "starts again)",
    )
    every_steps: int | None = Field(
        default=None,
        ge=1,
        description="optimizer steps after which the next evaluation is followed by a checkpoint, "
        "whatever the clock says; none: only by the clock",
    )
    keep: int = Field(
        default=2,
        ge=1,
        description="checkpoints of a trial that stay, the newest ones; with 2 there is one to "
        "fall back on when the newest is damaged",
    )
    storage: str | None = Field(
        default=None,
        min_length=1,
        description="folder or URI (such as s3://bucket/runs) that every node reaches; none: the "
        "trial's own folder in the runs folder, to which hosts that do not see it send them",
    )

    @field_validator("storage")
    @classmethod
    def _holds_no_key(cls, storage: str | None) -> str | None:
        """It is frozen with the study and stands in every report."""
        before_host = (storage or "").partition("://")[2].partition("/")[0].rpartition("@")[0]
        if ":" in before_host:
            raise ValueError(
                "there is a key or password in it, and a study file is no place for one: name only "
                "the bucket or host, and give keys as the file system reads them (for S3 "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY on every node)"
            )
        return storage

    @property
    def are_taken(self) -> bool:
        return self.every_steps is not None or self.every_minutes > 0

    def for_workers(self, own: Path, *, study: str) -> dict[str, Any]:
        """What a worker's context holds of this, as plain values.

        Args:
            own: the trial's folder for checkpoints, below that of its key.
            study: the name of its folder among others in one storage.
        """
        if not self.are_taken:
            return {"checkpoints": None}
        where = str(own)
        if self.storage is not None:
            root = self.storage.rstrip("/")
            if "://" not in root:  # of the driver; a worker has another working directory
                root = str(Path(self.storage).expanduser().absolute())
            where = "/".join([root, study, own.parent.name])
        return {
            "checkpoints": where,
            "checkpoint_every_minutes": self.every_minutes,
            "checkpoint_every_steps": self.every_steps,
            "checkpoints_kept": self.keep,
        }
