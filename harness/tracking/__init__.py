"""MLflow, fed from a study's files: one writer, at any time, again and again.

The files are the truth. Nothing here is needed to run, resume or analyse a study, and a tracking
server that is down costs a study seconds and no result.
"""

from __future__ import annotations

import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from harness.report.view import StudyView, load_view
from harness.results import StudyFolder, read_json, write_json
from harness.tracking.records import STUDY_ROLE, note, records, role_of
from harness.tracking.views import addresses, ui_links, view_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient

QUIET_S = 60.0
"""After a failure the server is left alone for so long, so that it cannot hold up a study."""

EXPERIMENT_KIND = "custom_model_development"
"""Without this tag the UI takes some experiments for collections of traces."""


class TrackingUnavailable(Exception):
    """MLflow could not be written; the study's files are complete without it."""


class Tracker:
    """Makes MLflow agree with a study's folder.

    Args:
        tracking_uri: a server or a database; None for `mlflow.db` in the runs folder, with its
            artifacts in `mlartifacts` beside it.
    """

    def __init__(self, folder: StudyFolder, tracking_uri: str | None = None) -> None:
        self.folder, self.given_uri = folder, tracking_uri
        self._client: MlflowClient | None = None
        self._quiet_until, self._last_failure = 0.0, ""

    @property
    def tracking_uri(self) -> str:
        return self.given_uri or f"sqlite:///{self.folder.path.parent / 'mlflow.db'}"

    def sync(self) -> None:
        """Writes what is missing. Nothing is written twice, whatever was interrupted before.

        Raises:
            TrackingUnavailable: MLflow could not be reached or written. For the next minute every
                call says so at once, without asking again.
            UserError: the folder holds no study.
        """
        if time.monotonic() < self._quiet_until:
            raise TrackingUnavailable(self._last_failure)
        view = load_view(self.folder)
        try:
            self._sync(view)
        except _failures() as error:
            self._client = None
            self._quiet_until = time.monotonic() + QUIET_S
            self._last_failure = f"{self.tracking_uri}: {_reason(error)}"
            raise TrackingUnavailable(self._last_failure) from error

    def _sync(self, view: StudyView) -> None:
        from harness.tracking.store import StudyRuns, open_client

        client = self._client = self._client or open_client(self.tracking_uri)
        experiment_id = self._experiment(client, view)
        runs = StudyRuns(client, experiment_id, self._study_id())
        for record in records(view):
            runs.write(record, started=_started(view, record.role))
        runs.write_artifacts(STUDY_ROLE, _artifacts(view.folder))

    def _experiment(self, client: MlflowClient, view: StudyView) -> str:
        """The experiment's id, after its description and views were brought up to date."""
        found = client.get_experiment_by_name(view.name)
        if found is None:
            # A server decides itself where artifacts go.
            location = (self.folder.path.parent / "mlartifacts" / view.name).as_uri()
            created = client.create_experiment(
                view.name, artifact_location=None if self.given_uri else location
            )
            found = client.get_experiment(created)
        if found.lifecycle_stage != "active":
            raise OSError(
                f"the experiment {view.name!r} was deleted in MLflow: restore it with `mlflow "
                f"experiments restore -x {found.experiment_id}`, or remove it for good with "
                "`mlflow gc`"
            )
        experiment_id = str(found.experiment_id)
        tags = {
            "mlflow.experimentKind": EXPERIMENT_KIND,
            "mlflow.note.content": note(view, links=addresses(experiment_id)),
            **view_tags(),
        }
        for key, value in tags.items():
            if found.tags.get(key) != value:
                client.set_experiment_tag(experiment_id, key, value)
        return experiment_id

    def _study_id(self) -> str:
        """Tells this folder's runs from those of another folder with the same study."""
        path = self.folder.path / "tracking.json"
        if not path.exists():
            write_json(path, {"study_id": uuid.uuid4().hex})
        return str(read_json(path)["study_id"])


def _started(view: StudyView, role: str) -> float | None:
    """When the run began, as its files tell; the study and its summaries begin with the plan."""
    if not role.startswith("trial/"):
        return view.folder.plan_path.stat().st_mtime
    for trial in view.trials:
        if role_of(trial) == role:
            spec = view.folder.trial(trial.key).path / "spec.json"
            return spec.stat().st_mtime if spec.exists() else None
    return None


def _artifacts(folder: StudyFolder) -> list[Path]:
    """The report with its figures, and the small files that say what was asked and answered."""
    names = ("study.toml", "plan.json", "environment.json", "data.json", "analysis.json")
    files = [folder.path / name for name in names]
    if folder.report_folder.exists():
        files += sorted(folder.report_folder.iterdir())
    return [path for path in files if path.is_file() and not path.name.startswith(".")]


def _failures() -> tuple[type[Exception], ...]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


REASONS = {
    "Connection refused": "nothing answers there (connection refused)",
    "timed out": "no answer in time",
    "Failed to resolve": "there is no host of this name",
}
"""What MLflow buries in a line of several hundred characters, and in plain words."""
LONGEST_REASON = 200


def _reason(error: Exception) -> str:
    text = str(error).strip()
    for sign, words in REASONS.items():
        if sign in text:
            return words
    return (text.splitlines() or [type(error).__name__])[0][:LONGEST_REASON]


def ui_command(runs_dir: Path, *, port: int = 5000) -> list[str]:
    """The command of an MLflow server on 127.0.0.1 over the store in `runs_dir`.

    The environment of this process, which the server inherits, is set to no telemetry and no jobs.
    """
    from harness.tracking.store import prepare_environment

    prepare_environment()
    runs = Path(runs_dir).resolve()
    return [
        sys.executable,
        *("-m", "mlflow", "server"),
        *("--backend-store-uri", f"sqlite:///{runs / 'mlflow.db'}"),
        *("--default-artifact-root", (runs / "mlartifacts").as_uri()),
        *("--host", "127.0.0.1"),
        *("--port", str(port)),
        *("--workers", "1"),
    ]


__all__ = ["Tracker", "TrackingUnavailable", "ui_command", "ui_links"]
