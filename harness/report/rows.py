"""From the study's files to rows of results, the analysis and `results.csv`."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable
from itertools import takewhile
from pathlib import Path

from harness.analysis import Analysis, AnalysisSettings, BaselineSlope, analyse
from harness.errors import UserError
from harness.report.view import StudyView, TrialView, load_view
from harness.result_table import ResultRow
from harness.results import Outcome, PlannedTrial, StudyFolder, write_json, write_text
from harness.stats.arrays import MINIMUM_SEEDS
from harness.stats.equivalence import slope_near_end
from harness.study import Plan
from harness.tuning import Configuration, VariantTuning

UNIT = "nats"
"""Of the losses of every study: cross-entropy with the natural logarithm, per token."""


def results_rows(folder: StudyFolder, plan: Plan) -> list[ResultRow]:
    """One row for each planned confirmation trial that has an outcome, in the plan's order.

    A diverged, failed or stopped trial is a row without a value. A trial without an outcome is not
    a row: `len(plan.trials) - len(rows)` of them are still to be run.
    """
    rows = []
    for planned in plan.trials:
        outcome = folder.trial(planned.key).outcome()
        if planned.phase == "confirmation" and outcome is not None:
            rows.append(_row(planned, outcome))
    return rows


def _row(planned: PlannedTrial, outcome: Outcome) -> ResultRow:
    return ResultRow(
        variant=planned.variant,
        seed=planned.seed,
        value=outcome.validation_loss if outcome.outcome == "completed" else None,
        outcome=outcome.outcome,
        initial_sha256=outcome.initial_parameters_sha256,
        batches_sha256=outcome.batches_sha256,
        diverged_at_step=outcome.diverged_at_step,
        unit=UNIT,
    )


def whole_seeds(view: StudyView) -> tuple[int, ...]:
    """Seeds at which every variant has an outcome."""
    ended = {(trial.variant, trial.seed) for trial in view.confirmation if trial.outcome}
    return tuple(s for s in view.seeds if all((v, s) in ended for v in view.variants))


def analysed_seeds(view: StudyView) -> dict[str, tuple[int, ...]]:
    """The seeds of each variant that are analysed.

    Without looks: those at which every variant has an outcome, because a variant that happens to
    be a seed ahead would break the pairs. With looks: each variant's first seeds without a gap,
    because a decided variant is not trained any further.
    """
    if not view.study["analysis"].get("looks"):
        return dict.fromkeys(view.variants, whole_seeds(view))
    return {
        variant: tuple(
            trial.seed for trial in takewhile(lambda t: t.outcome is not None, view.of(variant))
        )
        for variant in view.variants
    }


def why_no_analysis(view: StudyView) -> str | None:
    """The reason why nothing can be said yet; None if something can."""
    settings = view.study["analysis"]
    if not view.challengers and settings.get("target") is None:
        return f"The study has one variant only ({view.baseline}): there is nothing to compare."
    if view.tuning is not None and not view.confirmation:
        ended = sum(len(_ended(found)) for found in view.tuning.variants.values())
        return (
            f"The search is not over ({ended} configurations have ended) and the confirmation "
            "has not begun: run the study again, it continues where it stopped."
        )
    needed = min(settings.get("looks") or [MINIMUM_SEEDS])
    done, planned = min(map(len, analysed_seeds(view).values())), len(view.seeds)
    if done >= needed:
        return None
    return (
        f"{done} of {planned} seeds are finished for every variant and a verdict needs at least "
        f"{needed}: "
        + (
            "run the study again, it continues where it stopped."
            if planned >= needed
            else f"plan at least {needed} confirmation seeds."
        )
    )


def _ended(found: VariantTuning) -> list[Configuration]:
    return [item for item in found.configurations if item.outcome is not None]


def analyse_study(folder: StudyFolder) -> Analysis | None:
    """Analyses the finished seeds and writes analysis.json.

    Returns:
        None, and no analysis.json, while `why_no_analysis` has a reason.

    Raises:
        UserError: the results cannot be analysed under the study's settings.
    """
    view = load_view(folder)
    if why_no_analysis(view) is not None:
        folder.analysis_path.unlink(missing_ok=True)
        return None
    settings = AnalysisSettings.model_validate(view.study["analysis"])
    seeds = analysed_seeds(view)
    rows = [row for row in results_rows(folder, view.plan) if row.seed in seeds[row.variant]]
    analysis = analyse(rows, settings, slope=_slope(view, settings))
    values = {**analysis.to_json(), "plan_sha256": view.plan.sha256}
    write_json(folder.analysis_path, values)
    return analysis


def _slope(view: StudyView, settings: AnalysisSettings) -> BaselineSlope | None:
    """Slope near the end of the baseline's validation loss, averaged over its completed seeds.

    Raises:
        UserError: a margin in percent of speed is asked for and no slope can be read.
    """
    if settings.margin_speedup_percent is None:
        return None
    runs = [trial.reports for trial in view.of(view.baseline) if trial.completed]
    points = [
        (report.step, report.validation_loss)
        for reports in runs
        for report in reports
        if report.validation_loss is not None
    ]
    try:
        slope = slope_near_end([step for step, _ in points], [loss for _, loss in points])
    except ValueError as error:
        raise UserError(f"analysis.margin_speedup_percent: {error}") from None
    return BaselineSlope(steps=max(step for step, _ in points), loss_per_step=slope)


Cell = str | int | float | None

CSV_COLUMNS: dict[str, Callable[[TrialView], Cell]] = {
    "variant": lambda trial: trial.variant,
    "seed": lambda trial: trial.seed,
    "phase": lambda trial: trial.planned.phase,
    "outcome": lambda trial: trial.state,
    "value": lambda trial: trial.loss,
    "unit": lambda trial: UNIT,
    "perplexity": lambda trial: None if trial.loss is None else perplexity(trial.loss),
    "accuracy": lambda trial: trial.outcome.validation_accuracy if trial.outcome else None,
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
    "trial_key": lambda trial: trial.key,
    "reason": lambda trial: trial.outcome.reason if trial.outcome else None,
}
"""Columns of results.csv; `optbench compare` reads the names that `ResultRow` has."""


def perplexity(loss: float) -> float:
    """`exp(loss)`; infinite where that overflows."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def results_csv(trials: Iterable[TrialView]) -> str:
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


def write_results_csv(view: StudyView) -> Path:
    path = view.folder.report_folder / "results.csv"
    write_text(path, results_csv(view.trials))
    return path
