"""The folder of a study and the folders of its trials: where every file is, and who may write.

```
runs/<study>/
  study.toml plan.json environment.json
  trials/<trial_key>/  spec.json  attempts.jsonl  reports.jsonl  outcome.json  checkpoints/
  analysis.json  report/
```

JSON only; nothing is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import UserError
from harness.runs import json_lines
from harness.runs.attempts import ATTEMPT_EVENT, AttemptBegan, AttemptEnded, AttemptEvent
from harness.runs.files import read_json, write_json, write_text
from harness.study.record import Record
from harness.study.trial import TrialSpec
from harness.training.records import Outcome, Report


class Amendment(Record):
    """A change of a frozen plan, with its reason; printed in every report."""

    why: str
    when: str  # UTC, ISO 8601
    from_sha256: str
    to_sha256: str
    changes: tuple[str, ...]
    outcomes: int = 0  # training runs that had ended: what could be looked at before the change


@dataclass(frozen=True)
class TrialFolder:
    """`trials/<trial_key>/`."""

    path: Path

    @property
    def spec_path(self) -> Path:
        return self.path / "spec.json"

    @property
    def reports_path(self) -> Path:
        return self.path / "reports.jsonl"

    @property
    def attempts_path(self) -> Path:
        return self.path / "attempts.jsonl"

    @property
    def checkpoints_path(self) -> Path:
        return self.path / "checkpoints"

    @property
    def outcome_path(self) -> Path:
        return self.path / "outcome.json"

    def begin(self, spec: TrialSpec, event: AttemptBegan) -> None:
        """Notes an attempt; what it goes on from stays, what other code left does not.

        An attempt without an end is one whose driver died.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        events = self.attempts()
        last = next((e for e in reversed(events) if isinstance(e, AttemptBegan)), None)
        if last is None or last.code_sha256 != event.code_sha256:
            self.reports_path.unlink(missing_ok=True)
        self.outcome_path.unlink(missing_ok=True)
        if events and isinstance(events[-1], AttemptBegan):
            cause = "the run that made this attempt ended without a word"
            ended = AttemptEnded(
                attempt=events[-1].attempt, at=event.at, end="stopped", cause=cause
            )
            self.append_attempt(ended)
        write_json(self.spec_path, spec.model_dump(mode="json"))
        self.append_attempt(event)

    def spec(self) -> TrialSpec | None:
        """None of a trial that was never started."""
        if not self.spec_path.exists():
            return None
        return TrialSpec.model_validate_json(self.spec_path.read_text(encoding="utf-8"))

    def append(self, report: Report) -> None:
        json_lines.append(self.reports_path, report)

    def finish(self, outcome: Outcome) -> None:
        write_text(self.outcome_path, outcome.model_dump_json(indent=1) + "\n")

    def reports(self) -> list[Report]:
        return [Report.model_validate_json(line) for line in json_lines.read(self.reports_path)]

    def append_attempt(self, event: AttemptEvent) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        json_lines.append(self.attempts_path, event)

    def attempts(self) -> list[AttemptEvent]:
        """What began and what ended, in order; empty for a trial of an older version."""
        return [ATTEMPT_EVENT.validate_json(line) for line in json_lines.read(self.attempts_path)]

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
