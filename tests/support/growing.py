"""A study's folder that grows report by report, as a driver would write it."""

from __future__ import annotations

import shutil

from harness.runs.files import write_json
from harness.runs.folder import StudyFolder, TrialFolder
from harness.runs.plan_file import load_plan


class Growing:
    """Empties a folder, and writes what it held again, at the pace of the test.

    Args:
        folder: of a study with made-up results; every trial has an outcome.
    """

    def __init__(self, folder: StudyFolder) -> None:
        self.folder = folder
        self.names = {f"{row.variant} {row.detail}": row.key for row in load_plan(folder).trials}
        trials = {key: folder.trial(key) for key in self.names.values()}
        self.specs = {key: trial.spec() for key, trial in trials.items()}
        self.reports = {key: trial.reports() for key, trial in trials.items()}
        self.outcomes = {key: trial.outcome() for key, trial in trials.items()}
        shutil.rmtree(folder.path / "trials")

    def trial(self, name: str) -> TrialFolder:
        """By a name such as `muon seed 1`."""
        return self.folder.trial(self.names[name])

    def report(self, name: str, count: int = 1) -> bool:
        """Adds the next reports, or the outcome after the last of them; whether there was any."""
        trial, key = self.trial(name), self.names[name]
        if not trial.spec_path.exists():
            spec = self.specs[key]
            assert spec is not None, name
            write_json(trial.spec_path, spec.model_dump(mode="json"))
        left = self.reports[key][len(trial.reports()) :]
        for report in left[:count]:
            trial.append(report)
        if not left and trial.outcome() is None:
            outcome = self.outcomes[key]
            assert outcome is not None, name
            trial.finish(outcome)
            return True
        return bool(left)

    def to_the_end(self) -> None:
        for name in self.names:
            while self.report(name, count=100):
                pass
