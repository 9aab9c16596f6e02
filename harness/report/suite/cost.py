"""What a suite cost, by contestant: what was trained, how long it took, and for what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.analysis.study_results import StudyResults
from harness.report import numbers
from harness.report.elements import Table, left, right, table
from harness.runs.snapshot import TrialSnapshot


@dataclass(frozen=True, kw_only=True)
class Spent:
    """By one contestant over all tasks, failures included; hours from start to end of its runs.

    A run that several rows of a plan share counts once.
    """

    search_runs: int
    search_tokens: int
    search_hours: float
    measured_runs: int
    measured_tokens: int
    measured_hours: float
    worker_hours: float


def spent(studies: Iterable[StudyResults], variant: str) -> Spent:
    """Hours are those of whole runs; worker hours are these times the workers of each."""
    search: dict[tuple[str, str], TrialSnapshot] = {}
    measured: dict[tuple[str, str], TrialSnapshot] = {}
    workers: dict[tuple[str, str], int] = {}
    for study in studies:
        for trial in study.trials:
            if trial.variant == variant and trial.outcome is not None:
                key = (study.name, trial.key)
                (search if trial.planned.phase == "tuning" else measured)[key] = trial
                workers[key] = study.settings.resources.workers
    both = {**search, **measured}
    return Spent(
        search_runs=len(search),
        search_tokens=_tokens(search.values()),
        search_hours=_hours(search.values()),
        measured_runs=len(measured),
        measured_tokens=_tokens(measured.values()),
        measured_hours=_hours(measured.values()),
        worker_hours=sum(_hours([trial]) * workers[key] for key, trial in both.items()),
    )


def _tokens(trials: Iterable[TrialSnapshot]) -> int:
    return sum(trial.outcome.tokens for trial in trials if trial.outcome is not None)


def _hours(trials: Iterable[TrialSnapshot]) -> float:
    seconds = (trial.outcome.wall_time_s or 0.0 for trial in trials if trial.outcome is not None)
    return sum(seconds) / 3600


def _cells(runs: int, tokens: int, hours: float) -> tuple[str, str, str]:
    if not runs:
        return (numbers.MISSING,) * 3
    return str(runs), numbers.count(tokens), numbers.duration(3600 * hours)


def cost_table(studies: Mapping[str, StudyResults], contestants: Iterable[str]) -> Table:
    rows = []
    for name in contestants:
        found = spent(studies.values(), name)
        rows.append(
            (
                name,
                *_cells(found.search_runs, found.search_tokens, found.search_hours),
                *_cells(found.measured_runs, found.measured_tokens, found.measured_hours),
                numbers.decimal(found.worker_hours),
            )
        )
    columns = [*left("contestant"), *right("search runs", "tokens", "time")]
    columns += right("measuring runs", "tokens", "time", "worker hours")
    return table(
        "Cost of each contestant",
        columns,
        rows,
        note="Over all tasks, runs that diverged or failed included. Measuring: confirmation and "
        "horizons, the latter of the baseline only. Time is that of the training runs from start "
        "to end, added up; worker hours are these times the workers of a run, which share a "
        "machine where there are fewer devices.",
    )
