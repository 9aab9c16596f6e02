"""The four measures with their intervals, and their change against the baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from harness.analysis.horizon_speedup import HorizonSpeedup
from harness.analysis.machines import hardware, why_no_times
from harness.analysis.measures import MEASURES, Estimate, Measure, change, estimate
from harness.analysis.speedup import Speedup, speedups
from harness.analysis.stats.between_lengths import SpeedupBetween
from harness.analysis.stats.data_efficiency import DataEfficiency
from harness.analysis.stats.speedup import TargetSpeedup
from harness.analysis.study_results import StudyResults
from harness.report import numbers
from harness.report.elements import Paragraph, Table, left, right, table, wide


def measures(study: StudyResults) -> Table:
    """Mean and interval of every measure."""
    rows = [
        (
            variant,
            *(_estimate(estimate(study, variant, measure), measure) for measure in MEASURES),
        )
        for variant in study.ranked()
    ]
    return table(
        "Measures with intervals",
        [*left("variant"), *right(*(measure.title for measure in MEASURES))],
        rows,
        note=f"Mean over the seeds with its {study.percent} t interval. Perplexity is exp of the "
        "mean loss and of the ends of its interval." + _about_times(study),
    )


WRITERS: dict[str, Callable[[float], str]] = {
    "validation_loss": numbers.loss,
    "perplexity": numbers.decimal,
    "accuracy": lambda value: numbers.percent(value, digits=2),
    "training_time": numbers.duration,
}
"""How the values of each measure are written, by its name."""


def _estimate(found: Estimate | None, measure: Measure) -> str:
    if found is None:
        return numbers.MISSING
    write = WRITERS[measure.name]
    if found.low is None or found.high is None:
        return write(found.mean)
    return f"{write(found.mean)} [{write(found.low)}, {write(found.high)}]"


def changes(study: StudyResults) -> Table | None:
    """Every measure against the baseline, in percent of it."""
    rows = [
        (variant, *(write_change(change(study, variant, measure)) for measure in MEASURES))
        for variant in study.ranked()
        if study.comparison(variant) is not None
    ]
    if not rows:
        return None
    return table(
        f"Change against {study.baseline}, in percent",
        [*left("variant"), *right(*(measure.title for measure in MEASURES))],
        rows,
        note=f"Difference from {study.baseline} in percent of its mean, seed by seed where seeds "
        f"are paired, with {study.percent} t intervals of each difference alone: not adjusted for "
        "the number of variants. Less is better, but for accuracy. Accuracy changes in percent of "
        "itself, not in points." + _about_times(study),
    )


def _about_times(study: StudyResults) -> str:
    why = why_no_times(study)
    return f" {why}." if why else ""


def write_change(found: Estimate | None) -> str:
    """`−1.52 % [−1.70, −1.34]`; the interval only where there is one."""
    if found is None:
        return numbers.MISSING
    if found.low is None or found.high is None:
        return numbers.change(found.mean)
    ends = f"{numbers.change(found.low, unit='')}, {numbers.change(found.high, unit='')}"
    return f"{numbers.change(found.mean)} [{ends}]"


def data_efficiency(study: StudyResults, found: Sequence[HorizonSpeedup]) -> Table:
    """The speed-up to quote: in data, from several lengths of the baseline."""
    return table(
        "Speed-up in data",
        [*left("variant"), *right("speed-up", "misfit (nats)"), wide("remark")],
        [_efficiency_row(study, item) for item in found],
        note=_efficiency_note(study, found[0].lengths),
    )


def _efficiency_row(study: StudyResults, item: HorizonSpeedup) -> tuple[str, ...]:
    result = item.result
    if result is None:
        return (item.variant, numbers.MISSING, numbers.MISSING, item.why_not or "")
    misfit = numbers.MISSING
    if isinstance(result, DataEfficiency):
        misfit = f"{result.law.residual:.4f}"
    remarks = [_how_it_was_read(study.baseline, result), result.note or ""]
    return (item.variant, write_efficiency(result), misfit, "; ".join(filter(None, remarks)))


def _how_it_was_read(baseline: str, result: DataEfficiency | SpeedupBetween) -> str:
    if isinstance(result, SpeedupBetween):
        outside = "" if result.speedup else f", and its loss lies outside those of {baseline}"
        return f"no law fits: read between the lengths{outside}"
    if result.speedup is None:
        return f"its loss lies below what any amount of data would bring {baseline} to"
    return f"beyond the longest {baseline}: extrapolated" if result.extrapolated else ""


def write_efficiency(found: DataEfficiency | SpeedupBetween) -> str:
    """`1.34 [1.20, 1.51]`, or with what is left of it: `1.34, at least 1.20`, `at least 1.20`."""
    low, high = (None if end is None else f"{end:.2f}" for end in (found.low, found.high))
    speedup = None if found.speedup is None else f"{found.speedup:.2f}"
    if speedup and low and high:
        return f"{speedup} [{low}, {high}]"
    bound = f"at least {low}" if low else f"at most {high}" if high else None
    return ", ".join(part for part in (speedup, bound) if part) or numbers.MISSING


def _efficiency_note(study: StudyResults, lengths: Sequence[int]) -> str:
    base, steps = study.baseline, study.settings.training.steps
    *first, last = map(str, lengths)
    return (
        f"How many times as much data {base} needs for the same final loss, from its own law, "
        f"loss = a tokens^−b + c, through the ends of whole schedules of {', '.join(first)} and "
        f"{last} steps; misfit is what the law leaves unexplained. Intervals, by a t test over "
        f"seeds, hold at {study.percent_together}. Every length has the settings of {steps} steps: "
        f"with settings of its own {base} might be a little better there."
    )


def speedup(study: StudyResults, *, target: float | None = None) -> Iterator[Table | Paragraph]:
    """When each variant first saw the baseline's final loss, or a target fixed in advance."""
    found = speedups(study, target=target)
    if not found:
        return
    if target is not None and not any(item.arrived for item in found):
        yield Paragraph(text=f"No run of any variant reached a loss of {target:g}.", tone="note")
        return
    goal = f"the final loss of {study.baseline}" if target is None else f"a loss of {target:g}"
    columns = [*left("variant"), *right("ratio in steps and tokens", "in training time")]
    columns += [*right("arrived", "median steps", "median tokens"), wide("remark")]
    yield table(
        f"When {goal} was first seen",
        columns,
        [_speedup_row(item) for item in found],
        note=_speedup_note(study, target=target),
    )


def _speedup_row(item: Speedup) -> tuple[str, ...]:
    if item.steps is None:
        return (item.variant, *[numbers.MISSING] * 5, item.why_not or "")
    late = item.seeds - item.arrived
    remarks = [f"{late} of its seeds never arrived" if late else "", item.why_no_seconds or ""]
    return (
        item.variant,
        write_ratio(item.steps),
        write_ratio(item.seconds),
        f"{item.arrived} of {item.seeds}",
        numbers.count(item.median_steps),
        numbers.count(item.median_tokens),
        "; ".join(filter(None, remarks)),
    )


def write_ratio(found: TargetSpeedup | None) -> str:
    """`1.31 [1.24, 1.38]`, `at least 1.24` or `at most 0.98`, which are one-sided bounds."""
    if found is None:
        return numbers.MISSING
    if found.ratio is None:
        return "undetermined"
    if found.kind != "about":
        bound = found.low if found.kind == "at least" else found.high
        return f"{found.kind} {found.ratio if bound is None else bound:.2f}"
    if found.low is None or found.high is None:
        return f"{found.ratio:.2f}"
    return f"{found.ratio:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _speedup_note(study: StudyResults, *, target: float | None) -> str:
    base = study.baseline
    if target is None:
        goal = (
            f"The target is the final loss of {base}: of the same seed where seeds are paired, "
            "otherwise the highest of its seeds. "
        )
    else:
        goal = f"The target of {target:g} was fixed in advance. "
    return (
        "Not to be quoted as a speed-up: this says when a loss was first seen inside one schedule, "
        "where the learning rate decides how fast the loss falls, and is biased in a direction "
        f"that depends on the schedule. {goal}A ratio of 1.2 means that {base} first saw it after "
        "1.2 times as much as the variant: geometric mean over the seeds, with t intervals that "
        f"hold at {study.percent_together}. A run that never arrives counts with its whole budget, "
        "so that only a one-sided confidence bound is left: at most, at least. Time is steps times "
        f"the steady-state time of a step, on {hardware(study)}."
    )
