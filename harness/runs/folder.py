"""The folder of a study and the folders of its trials: where every file is, and who may write.

```
runs/<study>/
  study.toml plan.json environment.json  owner.json (while a driver runs)
  amendments.json  additions.json  (where the plan was changed, or added to)
  trials/<trial_key>/  spec.json  attempts.jsonl  reports.jsonl  outcome.json  checkpoints/
                       stop.json (while somebody asks the driver to stop it)
  analysis.json  report/
```

JSON only; nothing is ever unpickled.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from harness.errors import UserError
from harness.runs import json_lines
from harness.runs.attempts import ATTEMPT_EVENT, AttemptBegan, AttemptEnded, AttemptEvent
from harness.runs.files import write_json
from harness.runs.outcome_file import SealedOutcome, read_outcome, reports_sha256, write_outcome
from harness.runs.owner import Owner, read_owner, this_process
from harness.runs.plan_changes import Addition, Amendment
from harness.runs.reading import RESTORE, damaged, exists, read_record, read_records
from harness.runs.stop_request import StopRequest, asked_by
from harness.study.trial import TrialSpec
from harness.training.records import Outcome, Report

_SPEC, _REPORT = TypeAdapter(TrialSpec), TypeAdapter(Report)
_AMENDMENTS, _ADDITIONS = TypeAdapter(list[Amendment]), TypeAdapter(list[Addition])
_STOP = TypeAdapter(StopRequest)

SUITE_PLAN, TASKS = "suite.json", "tasks"
"""What a suite's folder holds beside that of a study, see `harness.runs.suite_folder`."""


@dataclass(frozen=True)
class TrialFolder:
    """`trials/<trial_key>/`.

    Every reader raises a UserError that names the file, if it is damaged.
    """

    path: Path

    @property
    def _advice(self) -> str:
        return f"restore it, or delete the folder {self.path}: its trial is then trained again"

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

    def start(self, spec: TrialSpec) -> None:
        """Empties the folder of what was trained before, and writes the spec."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.clear_stop()
        self.outcome_path.unlink(missing_ok=True)
        self.reports_path.unlink(missing_ok=True)
        if exists(self.spec_path):
            # Of a new trial they are its own: on a slow disk its workers may be ahead of this.
            shutil.rmtree(self.checkpoints_path, ignore_errors=True)
        write_json(self.spec_path, spec.model_dump(mode="json"))

    def begin(self, spec: TrialSpec, event: AttemptBegan) -> None:
        """Notes an attempt; what it goes on from stays, what other code left does not.

        An attempt without an end is one whose driver died.
        """
        events = self.attempts()
        last = next((e for e in reversed(events) if isinstance(e, AttemptBegan)), None)
        if last is None or last.code_sha256 != event.code_sha256:
            self.start(spec)
        self.outcome_path.unlink(missing_ok=True)
        if events and isinstance(events[-1], AttemptBegan):
            cause = "the run that made this attempt ended without a word"
            ended = AttemptEnded(
                attempt=events[-1].attempt, at=event.at, end="stopped", cause=cause
            )
            self.append_attempt(ended)
        self.append_attempt(event)

    def spec(self) -> TrialSpec | None:
        """None of a trial that was never started."""
        if not exists(self.spec_path):
            return None
        return read_record(self.spec_path, _SPEC, self._advice)

    def append(self, report: Report) -> None:
        json_lines.append(self.reports_path, report)

    def finish(self, outcome: Outcome) -> None:
        write_outcome(
            self.outcome_path, outcome, key=self.path.name, reports_path=self.reports_path
        )

    def reports(self) -> list[Report]:
        return read_records(self.reports_path, _REPORT, self._advice)

    def append_attempt(self, event: AttemptEvent) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        json_lines.append(self.attempts_path, event)

    def attempts(self) -> list[AttemptEvent]:
        """What began and what ended, in order; empty for a trial of an older version."""
        return read_records(self.attempts_path, ATTEMPT_EVENT, self._advice)

    def outcome(self) -> Outcome | None:
        sealed = self._sealed()
        return None if sealed is None else sealed.outcome

    def _sealed(self) -> SealedOutcome | None:
        return read_outcome(self.outcome_path, key=self.path.name, advice=self._advice)

    def results(self) -> tuple[list[Report], Outcome | None]:
        """All reports, and the outcome once there is one; also while a driver writes them.

        Raises:
            UserError: a file is damaged, or the reports are not those of the outcome.
        """
        sealed, reports = self._sealed(), self.reports()
        if sealed is None:
            return reports, None
        if sealed.reports_sha256 not in (None, reports_sha256(self.reports_path)):
            if self._sealed() != sealed:  # it is being trained again
                return self.results()
            reason = "these are not the reports that the trial ended with"
            raise damaged(self.reports_path, reason, self._advice)
        return reports, sealed.outcome

    @property
    def stop_path(self) -> Path:
        return self.path / "stop.json"

    def request_stop(self, why: str) -> None:
        """Asks the driver to end the attempt; the trial stays open."""
        write_json(self.stop_path, asked_by(why).model_dump(mode="json"))

    def stop_requested(self) -> str | None:
        """Why, if somebody asked; a request that cannot be read is one too."""
        if not exists(self.stop_path):
            return None
        try:
            return read_record(self.stop_path, _STOP, self._advice).why
        except UserError:
            return "no reason can be read"

    def clear_stop(self) -> None:
        self.stop_path.unlink(missing_ok=True)


@dataclass(frozen=True)
class StudyFolder:
    """`runs/<study>/`."""

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path).resolve())

    @property
    def suite_path(self) -> Path | None:
        """The folder of the suite whose task this is; None of a study that stands alone."""
        suite = self.path.parent.parent
        is_task = self.path.parent.name == TASKS and exists(suite / SUITE_PLAN)
        return suite if is_task else None

    @property
    def name(self) -> str:
        """Of the study, or `SUITE.TASK`."""
        suite = self.suite_path
        return self.path.name if suite is None else f"{suite.name}.{self.path.name}"

    @property
    def runs_dir(self) -> Path:
        """The folder of all studies' results."""
        return (self.suite_path or self.path).parent

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
        if not exists(self.amendments_path):
            return []
        return read_record(self.amendments_path, _AMENDMENTS, RESTORE)

    @property
    def additions_path(self) -> Path:
        return self.path / "additions.json"

    def additions(self) -> list[Addition]:
        """What was added to the plan since it was frozen, in order."""
        if not exists(self.additions_path):
            return []
        return read_record(self.additions_path, _ADDITIONS, RESTORE)

    @property
    def report_folder(self) -> Path:
        return self.path / "report"

    def trial(self, key: str) -> TrialFolder:
        return TrialFolder(self.path / "trials" / key)

    @property
    def owner_path(self) -> Path:
        return self.path / "owner.json"

    def owner(self) -> Owner | None:
        """Who runs the study, or ran it and died; None after a clean end. It only tells."""
        return read_owner(self.owner_path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for one driver, whose name stands in owner.json meanwhile.

        Raises:
            UserError: another process is running this study, or nothing can be written here.
        """
        lock = FileLock(self.path / ".lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            owner = self.owner()
            raise UserError(
                f"{self.path} is in use by another optbench run"
                + (f" ({owner.words})" if owner is not None else "")
                + ": wait for it, or give another --runs-dir"
            ) from None
        except OSError as error:
            raise _not_writable(self.path, error) from None
        try:
            try:
                write_json(self.owner_path, this_process().model_dump(mode="json"))
            except OSError as error:
                raise _not_writable(self.path, error) from None
            try:
                yield
            finally:
                with suppress(OSError):
                    self.owner_path.unlink()
        finally:
            lock.release()


def _not_writable(path: Path, error: OSError) -> UserError:
    where = "" if error.filename in (None, str(path)) else f" at {error.filename}"
    return UserError(
        f"cannot write results in {path} ({error.strerror}{where}): make room or give the right "
        "to write there, or give another --runs-dir"
    )
