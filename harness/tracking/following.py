"""What MLflow shows while a study runs: its trials as they come, without any analysis.

Verdicts and summaries come from `Tracker.sync` at the end, which finds these runs and completes
them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

from harness.analysis.study_results import StudyResults
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import load_plan
from harness.runs.search_log import SearchLog
from harness.study.study_file import frozen_study
from harness.tracking.run_records import (
    STUDY_ROLE,
    RunRecord,
    role_of,
    study_record,
    variant_record,
)
from harness.tracking.study_runs import StudyRuns
from harness.tracking.tracker import Tracker, started, writing_alone
from harness.tracking.trial_files import Signature, TrialFiles, signature

RETRY_S = 3.0
"""Pause after a failure: a server that is back gets its reports within seconds."""


class Following:
    """Sends what is new in a study's files, again and again; use it as a context manager.

    `problem` says why MLflow could not be written the last time, and is empty if it could.
    """

    def __init__(self, folder: StudyFolder, tracking_uri: str | None = None) -> None:
        self.folder, self.tracker = folder, Tracker(folder, tracking_uri)
        self.problem = ""
        self._retry_at = 0.0
        self._plan_seen: tuple[Signature | None, ...] = ()
        self._study: StudyResults | None = None
        self._trials: dict[str, TrialFiles] = {}
        self._runs: StudyRuns | None = None
        self._alone = ExitStack()

    def __enter__(self) -> Following:
        return self

    def __exit__(self, *_: object) -> None:
        self._alone.close()

    def poll(self) -> None:
        """Sends what is new. Nothing is raised: training goes on whatever happens here."""
        if time.monotonic() >= self._retry_at:
            self._send(training=True)

    def finish(self) -> None:
        """Sends the last of it, when no driver trains any more: what is open was interrupted."""
        self._send(training=False)

    def _send(self, *, training: bool) -> None:
        try:
            study = self._planned()
            runs = self._runs = self._runs or self._connect(study)
            runs.write_all(
                self._news(study, training=training),
                started=lambda record: started(self.folder, record),
                written=lambda record: self._trials[record.role].sent(),
            )
            if not training:
                self._end_parents(study)
            self.problem = ""
        except Exception as error:
            self.problem = self.tracker.failure(error)
            self._retry_at = time.monotonic() + RETRY_S
            self._forget()

    def _news(self, study: StudyResults, *, training: bool) -> Iterator[RunRecord]:
        for trial in self._trials.values():
            changed = trial.changed()
            if changed or (trial.is_open and not training):
                record = trial.record(study, training=training)
                if record is not None:
                    yield record

    def _forget(self) -> None:
        """What MLflow holds is not known now, so it is compared with the whole files again."""
        self._runs = None
        self._alone.close()
        self._study, self._plan_seen = None, ()
        self._trials.clear()

    def _planned(self) -> StudyResults:
        """The study without its trials, which are read one by one as they grow."""
        paths = (self.folder.plan_path, SearchLog(self.folder.path).path)
        seen = tuple(signature(path) for path in paths)
        if self._study is None or seen != self._plan_seen:
            plan = load_plan(self.folder)
            for planned in plan.trials:
                if (role := role_of(planned)) not in self._trials:
                    self._trials[role] = TrialFiles(planned, self.folder.trial(planned.key))
            self._plan_seen = seen
            self._study = StudyResults(
                folder=self.folder,
                plan=plan,
                settings=frozen_study(plan.study),
                trials=(),
                search_events=(),
                amendments=(),
                environment=None,
                data=None,
                analysis=None,
                search=None,
            )
        return self._study

    def _connect(self, study: StudyResults) -> StudyRuns:
        self._alone.enter_context(writing_alone(self.folder, 0))
        runs = self.tracker.connect(study, describe=False)
        for record in _parents(study):
            # Without results: those are known after the analysis only.
            bare = replace(record, groups=(), content="", status="RUNNING")
            if record.role in runs.runs:
                runs.write_status(bare)
            else:
                runs.write(bare, started=started(self.folder, bare))
        return runs

    def _end_parents(self, study: StudyResults) -> None:
        """The study and each variant has come to its end, or was interrupted before."""
        assert self._runs is not None, "connected before"
        lacking = {t.planned.variant for t in self._trials.values() if t.outcome is None}
        for record in _parents(study):
            is_open = lacking if record.role == STUDY_ROLE else record.tags["variant"] in lacking
            self._runs.write_status(replace(record, status="KILLED" if is_open else "FINISHED"))


def _parents(study: StudyResults) -> list[RunRecord]:
    return [study_record(study), *(variant_record(study, v) for v in study.variants)]
