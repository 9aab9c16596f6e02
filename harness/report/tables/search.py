"""What the search chose and what everything cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.analysis.shrinkage import not_tuned, shrinkages
from harness.analysis.study_results import StudyResults
from harness.report import numbers
from harness.report.elements import Table, left, right, table, wide
from harness.report.tables.results import OUTCOME_WORDS
from harness.runs.snapshot import TrialSnapshot
from harness.study.dotted import write_value
from harness.study.plan import Phase
from harness.training.records import Outcome


def chosen(study: StudyResults) -> Table | None:
    """The point that each search ended with, whether it lies inside its space, its shrinkage."""
    if study.search is None:
        return None
    shrunk = {item.variant: item for item in shrinkages(study)}
    rows = []
    for variant in study.ranked():
        found, own = study.search.variants.get(variant), shrunk.get(variant)
        if found is None and study.variant(variant).tuned:
            continue
        reason = not_tuned(study, variant)
        measured = None if own is None else own.shrinkage
        remarks = (reason, *((own.why_not, own.basis) if own else ()))
        rows.append(
            (
                variant,
                "yes" if reason is None else "not tuned",
                write_point(found.chosen.point) if found and found.chosen else numbers.MISSING,
                numbers.loss(own.tuning_score if own else None),
                numbers.loss(own.confirmation_mean if own else None),
                numbers.difference(measured),
                numbers.interval(own.interval if own else None),
                "; ".join(filter(None, remarks)),
            )
        )
    columns = [
        *left("variant", "tuned"),
        wide("chosen"),
        *right("tuning loss", "confirmation loss", "shrinkage", "interval"),
        wide("remark"),
    ]
    return table("Chosen by the search", columns, rows, note=CHOSEN_NOTE)


CHOSEN_NOTE = (
    "The best configuration of each variant's search, chosen on the tuning seeds and measured on "
    "the confirmation seeds. Shrinkage is tuning loss − confirmation loss: below zero the choice "
    "looked better than it is, as the best of many does. What all variants shrink alike is the "
    "difference between the two sets of seeds. A variant is not tuned if the best value, "
    "or one within 2 sigma of it, lies at an edge of its space: the optimum may lie beyond."
)


def ledger(study: StudyResults) -> Table | None:
    """What each variant was given, failures included, in the search and in the confirmation."""
    rows: list[tuple[str, ...]] = []
    for variant in study.ranked():
        if study.search is not None and variant in study.search.variants:
            spent = study.search.variants[variant].ledger
            lost = spent.training_runs - spent.completed
            rows.append(
                (
                    variant,
                    "search",
                    str(spent.configurations),
                    str(spent.training_runs),
                    str(spent.completed),
                    str(lost),
                    numbers.count(spent.tokens),
                    numbers.duration(3600 * spent.hours),
                )
            )
        for phase in MEASURING:
            ended = [t.outcome for t in study.of(variant, phase) if t.outcome is not None]
            if ended:
                rows.append((variant, *_spent(phase, ended)))
    columns = [*left("variant", "phase"), *right("configurations", "training runs", "completed")]
    columns += right("without a result", "tokens", "time")
    return table("Ledger", columns, rows, note=LEDGER_NOTE) if rows else None


MEASURING: tuple[Phase, ...] = ("confirmation", "horizon")


def _spent(phase: Phase, ended: Sequence[Outcome]) -> tuple[str, ...]:
    completed = sum(outcome.outcome == "completed" for outcome in ended)
    return (
        phase,
        "1",
        str(len(ended)),
        str(completed),
        str(len(ended) - completed),
        numbers.count(sum(outcome.tokens for outcome in ended)),
        numbers.duration(sum(outcome.wall_time_s or 0.0 for outcome in ended)),
    )


LEDGER_NOTE = (
    "What each variant was given; the budget of a search counts what diverged, failed or was "
    "stopped. A horizon is the baseline at another length, for the speed-up. Time is that of the "
    "training runs from start to end, added up."
)


def search_failures(study: StudyResults) -> Table | None:
    """Every training run of the search that ended in another way than completed."""
    rows = [
        (
            trial.variant,
            _point_of(study, trial),
            str(trial.seed),
            OUTCOME_WORDS.get(trial.state, trial.state),
            str(trial.outcome.diverged_at_step or trial.outcome.step),
            trial.outcome.reason or numbers.MISSING,
        )
        for trial in study.trials
        if trial.planned.phase == "tuning" and trial.outcome is not None and not trial.completed
    ]
    columns = [*left("variant"), wide("configuration"), *right("seed"), *left("outcome")]
    columns += [*right("step"), wide("reason")]
    return table("Trials of the search without a final loss", columns, rows) if rows else None


def _point_of(study: StudyResults, trial: TrialSnapshot) -> str:
    found = study.search.variants.get(trial.variant) if study.search else None
    for item in found.configurations if found else ():
        if trial.key in item.keys.values():
            return write_point(item.point)
    return numbers.MISSING


def write_point(point: Mapping[str, Any]) -> str:
    """`lr 0.0123, momentum 0.95`: four digits tell any two points of a search apart."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {write_value(value)}"
        for name, value in point.items()
    )
