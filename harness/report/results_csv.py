"""results.csv: every trial with an outcome as one line, which `optbench compare` reads."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from harness.analysis.measures import perplexity
from harness.analysis.result_rows import COMPUTED_COLUMNS, UNRECORDED
from harness.analysis.study_analysis import UNIT, computed_by
from harness.runs.files import write_text
from harness.runs.snapshot import StudySnapshot, TrialSnapshot

Cell = str | int | float | None


def _computed(field: str, trial: TrialSnapshot) -> Cell:
    known = UNRECORDED if trial.outcome is None else computed_by(trial.outcome)
    found: str | None = getattr(known, field)
    return found


CSV_COLUMNS: dict[str, Callable[[TrialSnapshot], Cell]] = {
    "variant": lambda trial: trial.variant,
    "seed": lambda trial: trial.seed,
    "phase": lambda trial: trial.planned.phase,
    "outcome": lambda trial: trial.state,
    "value": lambda trial: trial.loss,
    "unit": lambda trial: UNIT,
    "perplexity": lambda trial: None if trial.loss is None else perplexity(trial.loss),
    "accuracy": lambda trial: trial.outcome.validation_accuracy if trial.outcome else None,
    "leaked_loss": lambda trial: trial.leaked_loss,
    "steps": lambda trial: trial.outcome.step if trial.outcome else None,
    "tokens": lambda trial: trial.outcome.tokens if trial.outcome else None,
    "tokens_per_s": lambda trial: trial.tokens_per_s,
    "step_time_s": lambda trial: trial.step_time_s,
    "train_time_s": lambda trial: trial.last.train_time_s if trial.last else None,
    "evaluation_time_s": lambda trial: trial.last.evaluation_time_s if trial.last else None,
    "startup_time_s": lambda trial: trial.last.startup_time_s if trial.last else None,
    "wall_time_s": lambda trial: trial.outcome.wall_time_s if trial.outcome else None,
    "peak_memory_bytes": lambda trial: trial.last.peak_memory_bytes if trial.last else None,
    "diverged_at_step": lambda trial: trial.outcome.diverged_at_step if trial.outcome else None,
    "initial_sha256": lambda trial: (
        trial.outcome.initial_parameters_sha256 if trial.outcome else None
    ),
    "batches_sha256": lambda trial: trial.outcome.batches_sha256 if trial.outcome else None,
    **{column: partial(_computed, field) for column, field in COMPUTED_COLUMNS.items()},
    "trial_key": lambda trial: trial.key,
    "reason": lambda trial: trial.outcome.reason if trial.outcome else None,
}
"""Columns of results.csv; `optbench compare` reads the names that `ResultRow` has."""


def results_csv(trials: Iterable[TrialSnapshot]) -> str:
    """Every trial with an outcome as one line; floats with all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for trial in trials:
        if trial.outcome is not None:
            writer.writerow([_cell(read(trial)) for read in CSV_COLUMNS.values()])
    return text.getvalue()


def _cell(value: Cell) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def write_results_csv(study: StudySnapshot) -> Path:
    path = study.folder.report_folder / "results.csv"
    write_text(path, results_csv(study.trials))
    return path
