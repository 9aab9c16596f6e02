"""The files of a study: the one truth that MLflow, the statistics and the figures are made from.

```
runs/<study>/
  study.toml plan.json environment.json
  trials/<trial_key>/  spec.json  reports.jsonl  outcome.json
  analysis.json  report/
```

A file appears complete or not at all (temporary name, fsync, rename); `reports.jsonl` grows by
whole lines. JSON only; nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field

from harness.config import Phase, TrialSpec
from harness.errors import UserError

OutcomeWord = Literal["completed", "diverged", "stopped", "failed", "out_of_memory"]


class Record(BaseModel):
    """A frozen JSON record. Non-finite numbers are written as null."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Report(Record):
    """What a trial yields at an evaluation point. Losses in nats, times in seconds."""

    step: int = Field(description="optimizer steps done")
    tokens: int = Field(description="training tokens seen, over all workers")
    train_loss: float | None = Field(
        description="mean cross-entropy of the steps since the last report; null: non-finite"
    )
    validation_loss: float | None = Field(description="cross-entropy; null: non-finite")
    validation_accuracy: float = Field(description="share of next tokens predicted exactly")
    learning_rate: float = Field(description="of the first parameter group, at the last step")
    gradient_norm: float | None = Field(
        description="global L2 norm before clipping, at the last step; null: non-finite or none"
    )
    train_time_s: float = Field(
        description="training steps only, from the start; without the first step, start-up and "
        "evaluation"
    )
    step_time_s: float | None = Field(
        description="mean time of a step since the last report, the first step left out"
    )
    tokens_per_s: float | None = Field(description="tokens of a step / step_time_s")
    evaluation_time_s: float = Field(description="time in evaluations, from the start")
    startup_time_s: float = Field(description="from the trial's start to the end of the first step")
    peak_memory_bytes: int = Field(description="peak memory of worker 0 (GPU memory on a GPU)")
    router_load: list[list[float]] = Field(
        description="per MoE layer, the share of assignments of each expert, at this evaluation"
    )
    dead_experts: int = Field(description="experts without a single token at this evaluation")
    counters: dict[str, float] = Field(
        description="the optimizer's own counters, from the start (Newton-Schulz calls, bytes ..)"
    )


class Outcome(Record):
    """How a trial ended, and the certificate of what it started from and what it read."""

    outcome: OutcomeWord
    reason: str | None = None
    traceback: str | None = Field(default=None, description="of a failure inside a worker")
    step: int = 0
    tokens: int = 0
    validation_loss: float | None = Field(default=None, description="at the last step, nats")
    validation_accuracy: float | None = None
    diverged_at_step: int | None = None
    initial_parameters_sha256: str | None = None
    batches_sha256: str | None = Field(
        default=None, description="data, evaluation windows and the whole planned batch sequence"
    )
    num_parameters: int | None = None
    routes: list[dict[str, Any]] = Field(
        default_factory=list, description="each parameter's route through the optimizer"
    )
    preflight: dict[str, Any] = Field(
        default_factory=dict, description="what the checks at the start of the trial found"
    )
    wall_time_s: float | None = Field(default=None, description="from the trial's start to its end")


class Amendment(Record):
    """A change of a frozen plan, with its reason; printed in every report."""

    why: str
    when: str = Field(description="UTC, ISO 8601")
    from_sha256: str
    to_sha256: str
    changes: tuple[str, ...]


class PlannedTrial(Record):
    """One row of the plan. Rows with the same key are one training run."""

    variant: str
    phase: Phase
    seed: int
    key: str


@dataclass(frozen=True)
class TrialFolder:
    """`trials/<trial_key>/`."""

    path: Path

    @property
    def reports_path(self) -> Path:
        return self.path / "reports.jsonl"

    @property
    def outcome_path(self) -> Path:
        return self.path / "outcome.json"

    def start(self, spec: TrialSpec) -> None:
        """Empties what an interrupted attempt left, and writes the spec."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.outcome_path.unlink(missing_ok=True)
        self.reports_path.unlink(missing_ok=True)
        write_json(self.path / "spec.json", spec.model_dump(mode="json"))

    def append(self, report: Report) -> None:
        """Adds one whole line and forces it to the disk."""
        with self.reports_path.open("a", encoding="utf-8") as file:
            file.write(report.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def finish(self, outcome: Outcome) -> None:
        write_text(self.outcome_path, outcome.model_dump_json(indent=1) + "\n")

    def reports(self) -> list[Report]:
        """All whole lines; a line cut by a crash is left out."""
        if not self.reports_path.exists():
            return []
        lines = self.reports_path.read_text(encoding="utf-8").split("\n")
        return [Report.model_validate_json(line) for line in lines[:-1]]

    def outcome(self) -> Outcome | None:
        if not self.outcome_path.exists():
            return None
        return Outcome.model_validate_json(self.outcome_path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class StudyFolder:
    """`runs/<study>/`."""

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path).resolve())

    @property
    def plan_path(self) -> Path:
        return self.path / "plan.json"

    @property
    def analysis_path(self) -> Path:
        return self.path / "analysis.json"

    @property
    def environment_path(self) -> Path:
        return self.path / "environment.json"

    @property
    def amendments_path(self) -> Path:
        return self.path / "amendments.json"

    def amendments(self) -> list[Amendment]:
        if not self.amendments_path.exists():
            return []
        return [Amendment.model_validate(values) for values in read_json(self.amendments_path)]

    @property
    def report_folder(self) -> Path:
        return self.path / "report"

    def trial(self, key: str) -> TrialFolder:
        return TrialFolder(self.path / "trials" / key)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for one driver.

        Raises:
            UserError: another process is running this study in this folder.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{self.path} is in use by another optbench run: wait for it, or give another "
                "--runs-dir"
            ) from None
        try:
            yield
        finally:
            lock.release()


def write_text(path: Path, text: str) -> None:
    """Writes the file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
