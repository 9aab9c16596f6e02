"""The four measures with their intervals, and their change against the baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from harness.analysis.horizon_speedup import HorizonSpeedup
from harness.analysis.measures import MEASURES, Estimate, Measure, change, estimate
from harness.analysis.speedup import Speedup, hardware, speedups
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
        "mean loss and of the ends of its interval.",
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
        "itself, not in points.",
    )


def write_change(found: Estimate | None) -> str:
    """`−1.52 % [−1.70, −1.34]`; the interval only where there is one."""
    if found is None:
        return numbers.MISSING
    if found.low is None or found.high is None:
        return numbers.change(found.mean)
    ends = f"{numbers.change(found.low, unit='')}, {numbers.change(found.high, unit='')}"
    return f"{numbers.change(found.mean)} [{ends}]"


def speedup(study: StudyResults, *, target: float | None = None) -> Iterator[Table | Paragraph]:
    """Steps, tokens and time to the baseline's final loss, or to a target fixed in advance."""
    found = speedups(study, target=target)
    if not found:
        return
    if target is not None and not any(item.arrived for item in found):
        yield Paragraph(text=f"No run of any variant reached a loss of {target:g}.", tone="note")
        return
    goal = f"the final loss of {study.baseline}" if target is None else f"a loss of {target:g}"
    columns = [*left("variant"), *right("speed-up in steps and tokens", "in training time")]
    columns += [*right("arrived", "median steps", "median tokens"), wide("remark")]
    yield table(
        f"Speed-up to {goal}",
        columns,
        [_speedup_row(item) for item in found],
        note=_speedup_note(study, target=target),
    )


def _speedup_row(item: Speedup) -> tuple[str, ...]:
    if item.steps is None:
        return (item.variant, *[numbers.MISSING] * 5, item.why_not or "")
    late = item.seeds - item.arrived
    return (
        item.variant,
        write_ratio(item.steps),
        write_ratio(item.seconds),
        f"{item.arrived} of {item.seeds}",
        numbers.count(item.median_steps),
        numbers.count(item.median_tokens),
        f"{late} of its seeds never arrived" if late else "",
    )


def data_efficiency(study: StudyResults, found: Sequence[HorizonSpeedup]) -> Table:
    """The speed-up in data, from several lengths of the baseline."""
    rows = []
    for item in found:
        result = item.result
        if result is None or result.speedup is None:
            below = "it lies below what any amount of data would reach" if result else ""
            rows.append((item.variant, numbers.MISSING, numbers.MISSING, item.why_not or below))
            continue
        ends = (result.low, result.high)
        interval = "" if None in ends else f" [{result.low:.2f}, {result.high:.2f}]"
        remark = f"beyond the longest {study.baseline}: extrapolated" if result.extrapolated else ""
        misfit = f"{result.law.residual:.4f}"
        rows.append((item.variant, f"{result.speedup:.2f}{interval}", misfit, remark))
    return table(
        "Speed-up in data",
        [*left("variant"), *right("speed-up", "misfit (nats)"), wide("remark")],
        rows,
        note=f"How many times as much data {study.baseline} needs for the same final loss, from "
        "its own law, loss = a tokens^−b + c, through fully decayed runs of several lengths, with "
        f"its {study.percent} interval (jackknife over seeds). This estimate is not biased by the "
        "schedule; prefer it to the crossings below.",
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
        f"{goal}A ratio of 1.2 means that {base} needs 1.2 times as much as the variant: geometric "
        f"mean over the seeds with its {study.percent} t interval. A run that never arrives "
        "counts with its whole budget, so that only a one-sided confidence bound is left: at most, "
        "at least. Time is steps times the steady-state time of a step, on "
        f"{hardware(study)}. Caution: a crossing inside one run is biased. While the learning rate "
        "decays the loss falls faster than from one finished run to a longer one, which pulls the "
        "ratio towards 1. An unbiased estimate needs the baseline at four or more lengths of a run."
    )
