"""Speed-up and tuned hyperparameters against size and length, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.suite.results import (
    Axis,
    HyperparameterScaling,
    ScalingFit,
    ScalingPoint,
    SpeedupScaling,
    SuiteAnalysis,
)
from harness.report import numbers
from harness.report.elements import Table, left, right, table, wide
from harness.report.suite.material import ranked
from harness.report.suite.values import INSIDE, short, speedup, written

WORDS: dict[Axis, str] = {"size": "when the model doubles", "tokens": "when the run doubles"}


def why_no_line(items: Sequence[SpeedupScaling | HyperparameterScaling]) -> str | None:
    """Why nothing is fitted, once for all of them; None where something is."""
    if not items or any(item.fit for item in items):
        return None
    reasons = dict.fromkeys(item.why_not for item in items if item.why_not)
    return f"No line is fitted: {'; or '.join(reasons)}."


def speedups(analysis: SuiteAnalysis) -> Table | None:
    """The fits of the speed-ups over size and length, with what they extrapolate to."""
    axes = _axes([item.fit for item in analysis.speedups])
    if not axes:
        return None
    found = {item.variant: item for item in analysis.speedups}
    rows = [
        [
            name,
            str(len(found[name].points)),
            *(_per_doubling(found[name].fit, axis) for axis in axes),
            *(_predicted(found[name].fit, axis) for axis in axes),
            _remark(found[name].fit, found[name].why_not, found[name].note),
        ]
        for name in ranked(analysis)
        if name in found
    ]
    beyond = [f"extrapolated over {'size' if axis == 'size' else 'length'}" for axis in axes]
    columns = [*left("contestant"), *right("tasks", *(WORDS[axis] for axis in axes))]
    return table(
        "Speed-up against size and length",
        [*columns, *right(*beyond), wide("remark")],
        rows,
        note="The factor by which the speed-up changes when the model or the run doubles (1: not "
        "at all), by a power law through the tasks, with its t interval. An extrapolation is no "
        "measurement: its interval is for one new task, if the law goes on.",
    )


def _per_doubling(fit: ScalingFit | None, axis: Axis) -> str:
    return numbers.MISSING if fit is None else written(fit.per_doubling.get(axis))


def _predicted(fit: ScalingFit | None, axis: Axis) -> str:
    """`1.21 [0.98, 1.50] at 4 times 32M`: what lies beyond is told with how far."""
    found = next((p for p in fit.predictions if p.axis == axis), None) if fit else None
    if found is None:
        return numbers.MISSING
    at = f"{found.factor:.3g}× the largest, {short(found.at)}"
    return f"{written(found.value)} at {at}"


def _axes(fits: list[ScalingFit | None]) -> list[Axis]:
    known: list[Axis] = ["size", "tokens"]
    return [axis for axis in known if any(fit and axis in fit.per_doubling for fit in fits)]


def _remark(fit: ScalingFit | None, why_not: str | None, note: str | None = None) -> str:
    if why_not:
        return "; ".join(filter(None, (f"no fit: {why_not}", note)))
    return "; ".join(filter(None, (fit.sentence.rstrip(".") if fit else "", note)))


def points(analysis: SuiteAnalysis) -> Table | None:
    """The data of the figures of speed-ups: each contestant on each task."""
    names = [item.variant for item in analysis.speedups]
    rows = [
        [
            task.task,
            short(task.active_parameters),
            short(task.tokens),
            *(speedup(analysis.result(task.task, name).speedup) for name in names),
        ]
        for task in analysis.tasks
    ]
    if not names:
        return None
    columns = [*left("task"), *right("active parameters", "tokens", *names)]
    return table(
        "Speed-up of every contestant on every task", columns, rows, note=_sources(analysis)
    )


SOURCES = {
    "horizons": "tokens, by the baseline's own lengths",
    "inside a run": INSIDE,
    "table": "by the costs that the table gave",
}


def _sources(analysis: SuiteAnalysis) -> str:
    used = {r.speedup.source for r in analysis.results if r.speedup is not None}
    ways = [words for source, words in SOURCES.items() if source in used]
    return f"How many times less it needs than {analysis.baseline}: {'; '.join(ways)}."


def hyperparameters(analysis: SuiteAnalysis) -> Table | None:
    """The chosen values of every task, and how they change."""
    found = [item for item in analysis.hyperparameters if item.points]
    if not found:
        return None
    axes = _axes([item.fit for item in found])
    tasks = [task.task for task in analysis.tasks]
    no_line = why_no_line(found)
    rows = [
        [
            item.variant,
            item.setting,
            *(_chosen(item, task) for task in tasks),
            *(_per_doubling(item.fit, axis) for axis in axes),
            *([] if no_line else [_remark(item.fit, item.why_not)]),
        ]
        for item in found
    ]
    changes = "Then the factor by which it changes when the model or the run doubles."
    return table(
        "Tuned settings of each task",
        [
            *left("contestant", "setting"),
            *right(*tasks, *(WORDS[axis] for axis in axes)),
            *([] if no_line else [wide("fit")]),
        ],
        rows,
        note="The value that the search of each task chose; a star: at the edge of its space, so "
        f"that the optimum may lie beyond. {no_line or changes}",
    )


def _chosen(item: HyperparameterScaling, task: str) -> str:
    point: ScalingPoint | None = next((p for p in item.points if p.task == task), None)
    if point is None:
        return numbers.MISSING
    return f"{point.value:.4g}" + ("*" if task in item.not_tuned else "")


def transfers(analysis: SuiteAnalysis) -> Table | None:
    """What settings tuned on one task cost on another; once for each contestant."""
    seen: dict[str, HyperparameterScaling] = {}
    for item in analysis.hyperparameters:
        seen.setdefault(item.variant, item)
    rows = [
        (
            item.variant,
            moved.source,
            moved.to,
            numbers.difference(moved.loss) if moved.loss is not None else "did not complete",
            numbers.percent(moved.distance, digits=0),
        )
        for item in seen.values()
        for moved in item.transfers
    ]
    columns = [*left("contestant", "tuned on", "used on"), *right("loss", "distance")]
    return (
        table(
            "What settings of another task cost",
            columns,
            rows,
            note="Read from the search of the task where they are used: its tried configuration "
            "nearest to what the other task chose, against its own best, in nats. The distance is "
            "the largest of any setting, in shares of its space; the loss is as noisy as the "
            "search.",
        )
        if rows
        else None
    )
