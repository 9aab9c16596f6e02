"""Speed-ups against size and length: a line over the tasks on logarithmic axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.analysis.stats.intervals import Interval
from harness.analysis.stats.log_linear import (
    MINIMUM_SIZES,
    LogLinearFit,
    fit_log_linear,
    goes_along,
    usable_axes,
)
from harness.analysis.suite.results import (
    Axis,
    Estimate,
    Extrapolation,
    ScalingFit,
    ScalingPoint,
    Speedup,
    SpeedupScaling,
    SpeedupSource,
)
from harness.analysis.suite.task_data import TaskData

FACTOR_BEYOND = 10.0
"""Where nobody names a larger size, the fit is read ten times beyond the largest task."""

AXIS_WORDS: dict[Axis, str] = {"size": "active parameters", "tokens": "training tokens"}


def placed(tasks: Sequence[TaskData]) -> list[TaskData]:
    """The same tasks, those that the suite gives one name of size, or of length, at one place.

    That is the geometric mean of theirs: a model of 231 and one of 230 thousand are no two sizes.
    """
    sizes = _places([(task.size, task.active_parameters) for task in tasks])
    lengths = _places([(task.length, task.tokens) for task in tasks])
    return [
        replace(task, active_parameters=size, tokens=length)
        for task, size, length in zip(tasks, sizes, lengths, strict=True)
    ]


def _places(named: Sequence[tuple[str | None, float | None]]) -> list[float | None]:
    groups: dict[str, list[float]] = {}
    for name, value in named:
        if name is not None and value is not None:
            groups.setdefault(name, []).append(value)
    middle = {
        name: own[0] if len(set(own)) == 1 else float(np.exp(np.mean(np.log(own))))
        for name, own in groups.items()
    }
    return [value if name is None else middle.get(name) for name, value in named]


def speedup_scaling(
    tasks: Sequence[TaskData],
    variants: Sequence[str],
    *,
    level: float,
    larger: Mapping[Axis, float] | None = None,
) -> tuple[SpeedupScaling, ...]:
    """One entry a challenger.

    Points have one source, that with the most tasks: of equals horizons, then a table's costs.

    Args:
        tasks: those with results.
        larger: sizes to extrapolate to; left out: ten times the largest task.
    """
    return tuple(_of_variant(tasks, name, level=level, larger=larger) for name in variants)


def _of_variant(
    tasks: Sequence[TaskData], variant: str, *, level: float, larger: Mapping[Axis, float] | None
) -> SpeedupScaling:
    sources: tuple[SpeedupSource, ...] = ("horizons", "table", "inside a run")
    by_source = {source: _points(tasks, variant, source) for source in sources}
    # Ties go to the better source, which stands first.
    source = max(sources, key=lambda s: (len(by_source[s]), -sources.index(s)))
    points = by_source[source]
    fitted = {point.task for point in points}
    missing = [
        task.name + _bound(task.speedups.get(source, {}).get(variant))
        for task in tasks
        if task.name not in fitted
    ]
    notes = [f"no speed-up on {', '.join(missing)}: left out"] if missing and points else []
    beyond = [
        task.name
        for task in tasks
        if task.name in fitted and task.speedups[source][variant].extrapolated
    ]
    if beyond:
        notes.append(
            f"on {', '.join(beyond)} it ends below the baseline's longest run: its speed-up there "
            "is the baseline's law read beyond its runs"
        )
    if points and source == "inside a run":
        notes.append(
            "read inside single schedules, which is biased; how its bias changes with size is not "
            "known. Horizons that reach its loss on every task would give speed-ups to quote"
        )
    fit, why_not = fit_points(points, "speed-up", level=level, larger=larger)
    return SpeedupScaling(
        variant=variant,
        points=points,
        fit=fit,
        why_not=why_not,
        note="; ".join(notes) or None,
    )


def _bound(speedup: Speedup | None) -> str:
    """` (at most 0.92)`: what a task that no line can take up says of it all the same."""
    if speedup is None or speedup.kind not in ("at least", "at most"):
        return ""
    end = speedup.low if speedup.kind == "at least" else speedup.high
    value = speedup.value if end is None else end
    return "" if value is None else f" ({speedup.kind} {value:.3g})"


def _points(
    tasks: Sequence[TaskData], variant: str, source: SpeedupSource
) -> tuple[ScalingPoint, ...]:
    found = []
    for task in tasks:
        speedup = task.speedups.get(source, {}).get(variant)
        # A bound is no point of a line.
        if speedup is None or speedup.value is None or speedup.kind != "about":
            continue
        found.append(
            ScalingPoint(
                task=task.name,
                active_parameters=task.active_parameters,
                tokens=task.tokens,
                value=speedup.value,
                low=speedup.low,
                high=speedup.high,
            )
        )
    return tuple(found)


def fit_points(
    points: Sequence[ScalingPoint],
    what: str,
    *,
    level: float,
    larger: Mapping[Axis, float] | None = None,
) -> tuple[ScalingFit | None, str | None]:
    """The fit, or None and why not."""
    axes: dict[Axis, list[float]] = {}
    for axis in ("size", "tokens"):
        values = [p.active_parameters if axis == "size" else p.tokens for p in points]
        known = [value for value in values if value is not None and value > 0.0]
        if points and len(known) == len(points):
            axes[axis] = known
    if not axes:
        return None, "the tasks do not say how large they are" if points else f"no {what} is known"
    by_name = {str(axis): values for axis, values in axes.items()}
    used: list[Axis] = [axis for axis in axes if axis in usable_axes(by_name)]
    if not used:
        sizes = ", ".join(f"{len(set(v))} of {AXIS_WORDS[a]}" for a, v in axes.items())
        return None, (
            f"{sizes}: at least {MINIMUM_SIZES} distinct ones of either are needed for a slope "
            "that something could contradict: add tasks of other sizes"
        )
    chosen = {axis: axes[axis] for axis in used}
    fit = fit_log_linear(
        {str(axis): axes[axis] for axis in used}, [point.value for point in points], level=level
    )
    beside = _beside(axes, used[0])
    return _as_result(fit, chosen, what, beside, level=level, larger=larger or {}), None


def _beside(axes: Mapping[Axis, Sequence[float]], used: Axis) -> dict[Axis, str]:
    """What to say of every other axis that varies, if it is not fitted."""
    said = {0: "; {} differ too, and these tasks cannot tell what is their part"}
    said |= {1: ", with which {} grow", -1: ", with which {} shrink"}
    return {
        axis: said[goes_along(values, axes[used])].format(AXIS_WORDS[axis])
        for axis, values in axes.items()
        if axis != used and len(set(values)) > 1
    }


def _as_result(
    fit: LogLinearFit,
    axes: Mapping[Axis, Sequence[float]],
    what: str,
    beside: Mapping[Axis, str],
    *,
    level: float,
    larger: Mapping[Axis, float],
) -> ScalingFit:
    exponents: dict[Axis, Estimate] = {}
    doublings: dict[Axis, Estimate] = {}
    for axis in axes:
        interval = fit.intervals[axis]
        exponents[axis] = _estimate(fit.slopes[axis], interval, level)
        doubled = None
        if interval is not None:
            doubled = Interval(low=2.0**interval.low, high=2.0**interval.high, level=level)
        doublings[axis] = _estimate(2.0 ** fit.slopes[axis], doubled, level)
    return ScalingFit(
        exponents=exponents,
        per_doubling=doublings,
        intercept=fit.intercept,
        residual_sd=fit.residual_sd,
        degrees_of_freedom=fit.degrees_of_freedom,
        curve={axis: _curve(fit, axes, axis) for axis in axes},
        predictions=tuple(_beyond(fit, axes, axis, what, level, larger) for axis in axes),
        sentence=_sentence(what, doublings, beside, fit.degrees_of_freedom),
    )


def _estimate(value: float, interval: Interval | None, level: float) -> Estimate:
    if interval is None:
        return Estimate(value=value, low=None, high=None, level=level)
    ends = (end if abs(end) < float("inf") else None for end in (interval.low, interval.high))
    low, high = ends
    return Estimate(value=value, low=low, high=high, level=level)


def _curve(
    fit: LogLinearFit, axes: Mapping[Axis, Sequence[float]], axis: Axis
) -> tuple[tuple[float, float], ...]:
    centre: dict[str, float] = {
        name: float(np.exp(np.mean(np.log(values)))) for name, values in axes.items()
    }
    along = np.geomspace(min(axes[axis]), max(axes[axis]), 25)
    return tuple((float(x), fit.predict({**centre, axis: float(x)})[0]) for x in along)


def _beyond(
    fit: LogLinearFit,
    axes: Mapping[Axis, Sequence[float]],
    axis: Axis,
    what: str,
    level: float,
    larger: Mapping[Axis, float],
) -> Extrapolation:
    largest: dict[str, float] = {name: max(values) for name, values in axes.items()}
    at = larger.get(axis, FACTOR_BEYOND * largest[axis])
    factor = at / largest[axis]
    value, interval = fit.predict({**largest, axis: at}, level=level)
    estimate = _estimate(value, interval, level)
    ends = ""
    if estimate.low is not None and estimate.high is not None:
        ends = f" [{estimate.low:.3g}, {estimate.high:.3g}]"
    where = "within the tasks"
    if factor > 1.0:
        where = f"{factor:.3g} times beyond the largest task"
    elif at < min(axes[axis]):
        where = f"{min(axes[axis]) / at:.3g} times below the smallest task"
    within = where == "within the tasks"
    kind = "Interpolation" if within else "Extrapolation, not a measurement"
    return Extrapolation(
        axis=axis,
        at=at,
        factor=factor,
        value=estimate,
        sentence=f"{kind}: {what} {value:.3g}{ends} at {at:.3g} {AXIS_WORDS[axis]}, {where}, "
        "if the line goes on as it was fitted",
    )


def _sentence(
    what: str, doublings: Mapping[Axis, Estimate], beside: Mapping[Axis, str], freedom: int
) -> str:
    parts = []
    for axis, estimate in doublings.items():
        ends = ""
        if estimate.low is not None and estimate.high is not None:
            ends = f" [{estimate.low:.3g}, {estimate.high:.3g}]"
        parts.append(f"by {estimate.value:.3g}{ends} for every doubling of {AXIS_WORDS[axis]}")
    others = "".join(text for axis, text in beside.items() if axis not in doublings)
    few = f" ({freedom} degree{'s' if freedom > 1 else ''} of freedom)" if freedom < 4 else ""
    return f"the {what} is multiplied {' and '.join(parts)}{few}{others}"
