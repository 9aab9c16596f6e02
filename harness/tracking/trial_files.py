"""The files of a trial while it is trained: what was added since they were looked at last."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

from harness.runs.attempts import ATTEMPT_EVENT, AttemptEvent
from harness.runs.folder import TrialFolder
from harness.runs.snapshot import StudySnapshot, TrialSnapshot
from harness.study.plan import PlannedTrial
from harness.study.trial import TrialSpec
from harness.tracking.metrics import MetricGroup, report_metrics
from harness.tracking.run_records import RunRecord, content_of, trial_run
from harness.training.records import Outcome, Report

Signature = tuple[int, int, int]


def signature(path: Path) -> Signature | None:
    """Changes whenever the file does; None: there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


class GrowingFile:
    """A file that grows by whole lines, and may begin anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: Signature | None = None
        self._end = 0  # of the lines that were read
        self._last = (0, b"")  # length of the last of them, and its SHA-256

    def read(self) -> tuple[bool, list[bytes]] | None:
        """Whether the file began anew, and the lines that are new; None if it is as it was."""
        found = signature(self.path)
        if found == self._seen:
            return None
        self._seen = found
        if found is None:
            self._end, self._last = 0, (0, b"")
            return True, []
        with self.path.open("rb") as file:
            anew = not self._continues(file)
            if anew:
                self._end = 0
            file.seek(self._end)
            lines = file.read().split(b"\n")[:-1]  # a line without its end is still being written
        if lines:
            self._end += sum(len(line) + 1 for line in lines)
            self._last = len(lines[-1]) + 1, _sha256(lines[-1] + b"\n")
        return anew, lines

    def _continues(self, file: BinaryIO) -> bool:
        """Whether the last line that was read still stands where it stood."""
        length, digest = self._last
        file.seek(self._end - length)
        return self._end == 0 or _sha256(file.read(length)) == digest


def _sha256(line: bytes) -> bytes:
    return hashlib.sha256(line).digest()


class TrialFiles:
    """A row of the plan with what its folder holds, read as it grows.

    Reports are kept as metrics, and only until they were sent: a study has very many of them.
    """

    def __init__(self, planned: PlannedTrial, folder: TrialFolder) -> None:
        self.planned, self.folder = planned, folder
        self.spec: TrialSpec | None = None
        self.outcome: Outcome | None = None
        self.attempts: list[AttemptEvent] = []
        self.groups: list[MetricGroup] = []  # those not sent yet, after the last one that was
        self.content = ""
        self._reports = GrowingFile(folder.reports_path)
        self._attempts = GrowingFile(folder.attempts_path)
        self._outcome: Signature | None = None

    def changed(self) -> bool:
        """Reads what is new; whether there is anything."""
        news = [self._read_outcome(), self._read_reports(), self._read_attempts()]
        return any(news)

    def _read_outcome(self) -> bool:
        """Before the reports: an outcome comes after all of them."""
        found = signature(self.folder.outcome_path)
        if found == self._outcome:
            return False
        self._outcome, self.outcome = found, self.folder.outcome()
        return True

    def _read_reports(self) -> bool:
        if (read := self._reports.read()) is None:
            return False
        anew, lines = read
        reports = [Report.model_validate_json(line) for line in lines]
        if anew:
            self.groups, self.content = [], ""
        if reports and not self.content:
            self.content = content_of(reports[0])
        self.groups += [report_metrics(report) for report in reports]
        return True

    def _read_attempts(self) -> bool:
        if (read := self._attempts.read()) is None:
            return False
        anew, lines = read
        events = [ATTEMPT_EVENT.validate_json(line) for line in lines]
        self.attempts = events if anew else self.attempts + events
        return True

    @property
    def is_open(self) -> bool:
        """It has begun, and has no outcome."""
        return self.outcome is None and bool(self.groups or self.attempts)

    def record(self, study: StudySnapshot, *, training: bool = True) -> RunRecord | None:
        """None of a trial that has not begun."""
        if not (self.groups or self.outcome or self.attempts):
            return None
        self.spec = self.spec or self.folder.spec()
        trial = TrialSnapshot(
            planned=self.planned,
            spec=self.spec,
            reports=(),
            outcome=self.outcome,
            attempts=tuple(self.attempts),
        )
        return trial_run(study, trial, groups=self.groups, content=self.content, training=training)

    def sent(self) -> None:
        """All that was read is in MLflow. The last report stays: a final loss may join it."""
        del self.groups[:-1]
