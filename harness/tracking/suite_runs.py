"""A suite in MLflow: an experiment whose runs are its contestants, beside those of its tasks.

One run for the suite with the report, below it one for each contestant with its scores. The trials
are in the experiments of the tasks, which are studies; the note of the suite links to them.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.analysis.suite.results import Estimate, Standing, SuiteAnalysis
from harness.analysis.suite.suite_analysis import SuiteResults
from harness.runs.folder import StudyFolder
from harness.runs.suite_folder import SuiteFolder
from harness.tracking.metrics import FORBIDDEN_IN_KEYS, metric_group
from harness.tracking.run_records import RunRecord, at_rest
from harness.tracking.tracker import NOTE, OTHER_WRITER_S, SYNC_S, Tracker, writing_alone
from harness.tracking.ui_views import SUITE_VIEWS, addresses, leaderboard_address, view_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from harness.tracking.study_runs import Sent

SUITE_ROLE = "suite"
ESTIMATES = ("score", "speedup", "iqm_speedup", "iqm_difference", "improvement", "mean_rank")
COUNTS = ("better", "worse", "equivalent", "inconclusive", "reached", "runs", "lost", "diverged")


class SuiteTracker:
    """Makes MLflow agree with what a suite's folder says of all tasks together.

    The tasks themselves are those of a `Tracker` each.
    """

    def __init__(self, folder: SuiteFolder, tracking_uri: str | None = None) -> None:
        self.folder = folder
        # What a tracker does with a folder (its lock, its identity) is the same for both.
        self._tracker = Tracker(StudyFolder(folder.path), tracking_uri)

    @property
    def tracking_uri(self) -> str:
        return self._tracker.tracking_uri

    def sync(self, results: SuiteResults, *, at_most_s: float = SYNC_S) -> Sent:
        """Writes what is missing. Nothing is written twice, whatever was interrupted before.

        Raises:
            TrackingUnavailable: MLflow could not be reached or written.
        """
        self._tracker.check_quiet()
        return self._tracker.guarded(lambda stop: self._sync(results, stop), at_most_s=at_most_s)

    def _sync(self, results: SuiteResults, stop: threading.Event) -> Sent:
        def tags(client: MlflowClient, experiment_id: str) -> dict[str, str]:
            links = leaderboard_address(experiment_id)
            return {
                NOTE: suite_note(results, links | _task_links(client, results)),
                **view_tags(SUITE_VIEWS),
            }

        with writing_alone(self._tracker.folder, OTHER_WRITER_S):
            runs = self._tracker.open_runs(results.plan.name, tags, describe=True)
            began = results.folder.plan_path.stat().st_mtime
            runs.write_all(suite_records(results), started=lambda _: began, stop=stop)
            runs.write_artifacts(SUITE_ROLE, _artifacts(results.folder))
        return runs.sent


def _task_links(client: MlflowClient, results: SuiteResults) -> dict[str, str]:
    """The addresses of the tasks' experiments, of those that are in MLflow."""
    links = {}
    for task, study in results.studies.items():
        found = client.get_experiment_by_name(study.name)
        if found is not None and found.lifecycle_stage == "active":
            links[task] = addresses(str(found.experiment_id))["variants with verdicts"]
    return links


def suite_records(results: SuiteResults) -> Iterator[RunRecord]:
    """The run of the suite, then those of its contestants, the best first."""
    yield at_rest(
        RunRecord(
            role=SUITE_ROLE,
            name=f"{results.plan.name} (suite)",
            parent=None,
            params={
                name: str(value)
                for name, value in results.plan.settings.model_dump(mode="json").items()
            },
            tags={
                "suite": results.plan.name,
                "suite_sha256": results.plan.sha256,
                NOTE: suite_note(results, {}),
            },
            status="FINISHED" if results.complete else "RUNNING",
        )
    )
    if results.analysis is not None:
        for row in results.analysis.leaderboard:
            yield at_rest(_contestant(results, results.analysis, row))


def _contestant(results: SuiteResults, analysis: SuiteAnalysis, row: Standing) -> RunRecord:
    known = contestant_metrics(analysis, row)
    finished = sum(study.finished for study in results.studies.values())
    counts = {word: getattr(row, word) for word in COUNTS[:4]}
    words = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    group = metric_group({**known, "finished_trials": float(finished)}, step=finished)
    return RunRecord(
        role=f"contestant/{row.variant}",
        name=row.variant,
        parent=SUITE_ROLE,
        tags={
            "suite": analysis.name,
            "contestant": row.variant,
            "rank": str(row.place),
            "verdicts": words or ("baseline" if row.is_baseline else "none yet"),
            "lost runs": f"{row.lost} of {row.runs}",
            NOTE: row.sentence,
        },
        groups=(group,),
        marker="finished_trials",
        content=hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest(),
        status="FINISHED" if results.complete else "RUNNING",
    )


def contestant_metrics(analysis: SuiteAnalysis, row: Standing) -> dict[str, float | None]:
    """Scores with the ends of their intervals, counts, and difference and rank on each task."""
    values: dict[str, float | None] = {"place": float(row.place)}
    for name in ESTIMATES:
        found: Estimate | None = getattr(row, name)
        values[name] = found.value if found else None
        values[f"{name}/low"] = found.low if found else None
        values[f"{name}/high"] = found.high if found else None
    for name in COUNTS:
        count: int | None = getattr(row, name)
        values[name] = None if count is None else float(count)
    for task in analysis.tasks:
        result, key = analysis.result(task.task, row.variant), _key(task.task)
        values[f"difference/{key}"] = result.difference
        values[f"rank/{key}"] = result.rank
    return values


def _key(name: str) -> str:
    return FORBIDDEN_IN_KEYS.sub("_", name)


def suite_note(results: SuiteResults, links: Mapping[str, str]) -> str:
    """The leaderboard in Markdown: the first thing on the page of the experiment."""
    analysis, lines = results.analysis, list[str]()
    if links:
        lines += [" · ".join(f"[{text}]({address})" for text, address in links.items()), ""]
    if results.plan.question:
        lines += [f"**{results.plan.question}**", ""]
    if analysis is None or not analysis.leaderboard:
        lines += ["No task has a result yet.", ""]
    else:
        lines += [f"{row.place}. {row.sentence}" for row in analysis.leaderboard] + [""]
        waiting = [task.task for task in analysis.tasks if task.why_not]
        if waiting:
            lines += [f"Not decided yet: {', '.join(waiting)}.", ""]
        lines += [
            f"{row.variant} lost {row.lost} of {row.runs} runs, {row.diverged} of them diverged."
            for row in analysis.leaderboard
            if row.lost
        ]
    lines += ["", f"The report is among the artifacts of the run `{results.plan.name} (suite)`."]
    return "\n".join(lines)


def _artifacts(folder: SuiteFolder) -> list[Path]:
    files = [folder.path / "suite.toml", folder.plan_path, folder.analysis_path]
    if folder.report_folder.exists():
        files += sorted(folder.report_folder.iterdir())
    return [path for path in files if path.is_file() and not path.name.startswith(".")]
