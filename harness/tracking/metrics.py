"""Which metrics are logged, under which names: of a report, and of a variant over its seeds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.analysis.horizon_speedup import horizon_speedups
from harness.analysis.machines import why_no_times
from harness.analysis.measures import MEASURES, change, median_tokens_per_s, perplexity
from harness.analysis.shrinkage import shrinkages
from harness.analysis.stats.intervals import Interval
from harness.analysis.study_results import StudyResults
from harness.training.records import OUTCOMES, Report

FINAL_LOSS = "final_validation_loss"

CURVES = (
    "step",
    "tokens",
    "train_loss",
    "validation_loss",
    "validation_accuracy",
    "learning_rate",
    "gradient_norm",
    "tokens_per_s",
)
"""Fields of a report that are charts of the first group of the UI, under their own names."""

GROUPED = {
    "leaked_loss": "leak/loss_on_training_text",
    "dead_experts": "router/dead_experts",
    "train_time_s": "time/training_s",
    "step_time_s": "time/step_s",
    "evaluation_time_s": "time/evaluation_s",
    "checkpoint_time_s": "time/checkpoint_s",
    "startup_time_s": "time/startup_s",
    "peak_memory_bytes": "memory/peak_bytes",
}
"""Fields that are looked at less often: the UI folds what stands before a slash."""

COUNTERS = {
    "skipped_steps": "skipped steps",
    "newton_schulz_calls": "Newton-Schulz calls",
    "bytes_sent": "bytes sent",
    "bytes_sent_per_element": "bytes sent per element and step",
}
"""What our optimizers' counters are called."""

UNCHARTED = (
    "optimizer_steps",
    "newton_schulz_steps",
    "bytes_between_nodes",
    "bytes_floor",
    "bytes_floor_per_element",
)
"""Counters that are another curve again, or a constant; they are in the report."""

MOST_COUNTERS = 8
"""An optimizer may count anything; every counter is a chart, and some hundred make the UI slow."""

BY_TOKENS = ("train_loss", "validation_loss", "validation_accuracy")
"""Fields of a report that get a second curve, over tokens instead of steps."""

SIGNIFICANT_DIGITS = 6
"""A loss of 3.43127 carries four or five: the noise of a seed is in the third decimal."""

FORBIDDEN_IN_KEYS = re.compile(r"[^\w\-./ ]")


@dataclass(frozen=True, kw_only=True)
class MetricGroup:
    """Metrics that are written together or not at all.

    `elapsed_s` is the time since the start of the run: with the run's start it gives every point
    the same time stamp whenever it is written.
    """

    values: tuple[tuple[str, float, int], ...]  # (key, value, step), all values finite
    elapsed_s: float


def report_metrics(report: Report) -> MetricGroup:
    """A report as some thirty metrics at most: what a person looks at, grouped by prefix.

    A value that is not finite is left out, so the run page shows the last finite one. All shares of
    the router and all counters are in the study's files.
    """
    fields = report.model_dump(include={*CURVES, *GROUPED})
    values = {name: fields[name] for name in CURVES}
    values |= {name: fields[field] for field, name in GROUPED.items() if field in fields}
    values |= _of_router(report)
    values |= _counted(report.counters)
    group = metric_group(values, step=report.step)
    by_tokens = tuple(
        (f"by_tokens/{name}", value, report.tokens)
        for name, value, _ in group.values
        if name in BY_TOKENS
    )
    elapsed = report.startup_time_s + report.train_time_s
    elapsed += report.evaluation_time_s + report.checkpoint_time_s
    return MetricGroup(values=group.values + by_tokens, elapsed_s=elapsed)


def _of_router(report: Report) -> dict[str, float]:
    """The largest and the smallest share of any expert, in whichever layer."""
    shares = [share for layer in report.router_load for share in layer]
    if not shares:
        return {}
    return {"router/largest_share": max(shares), "router/smallest_share": min(shares)}


def _counted(counters: Mapping[str, float]) -> dict[str, float]:
    """Named counters, ours first."""
    names = [name for name in COUNTERS if name in counters]
    names += sorted(counters.keys() - {*COUNTERS, *UNCHARTED})
    return {
        f"counters/{COUNTERS.get(name, name.replace('_', ' '))}": counters[name]
        for name in names[:MOST_COUNTERS]
    }


def with_final_loss(group: MetricGroup, loss: float) -> MetricGroup:
    """Only a completed trial has a final loss, so this column holds nothing misleading."""
    step = next(step for key, _, step in group.values if key == "step")
    final = metric_group({FINAL_LOSS: loss, "perplexity": perplexity(loss)}, step=step)
    return MetricGroup(values=group.values + final.values, elapsed_s=group.elapsed_s)


def rounded(value: float) -> float:
    """Six significant digits; a whole number, such as a count of tokens, stays what it is."""
    return value if value.is_integer() else float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def metric_group(values: dict[str, Any], *, step: int) -> MetricGroup:
    """The finite ones of these values, rounded to what they carry."""
    finite = tuple(
        (FORBIDDEN_IN_KEYS.sub("_", key), rounded(float(value)), step)
        for key, value in values.items()
        if value is not None and math.isfinite(value)
    )
    return MetricGroup(values=finite, elapsed_s=0.0)


def summary_metrics(study: StudyResults, variant: str) -> dict[str, float]:
    """Metrics by name, all finite."""
    trials = study.of(variant)
    values: dict[str, float | None] = {
        **{f"outcomes/{word}": float(sum(t.state == word for t in trials)) for word in OUTCOMES},
        "tokens_per_s": None if why_no_times(study) else median_tokens_per_s(trials),
        **_analysed(study, variant),
        **_compared(study, variant),
        **_searched(study, variant),
    }
    # A perplexity may be too large for a float; the store takes finite numbers only.
    return {key: rounded(v) for key, v in values.items() if v is not None and math.isfinite(v)}


def _analysed(study: StudyResults, variant: str) -> dict[str, float | None]:
    summary, comparison = study.summary(variant), study.comparison(variant)
    values: dict[str, float | None] = {}
    if summary:
        values |= {
            FINAL_LOSS: summary.mean,
            f"{FINAL_LOSS}/sd": summary.sd,
            **_ends(FINAL_LOSS, summary.interval),
            "n": float(summary.n),
        }
        values["perplexity"] = None if summary.mean is None else perplexity(summary.mean)
    if comparison:
        values |= {
            "difference": comparison.mean_difference,
            **_ends("difference", comparison.interval),
            "p": comparison.p,
            "adjusted_p": comparison.decisive_p,
        }
    return values


def _ends(name: str, interval: Interval | None) -> dict[str, float]:
    return {} if interval is None else {f"{name}/low": interval.low, f"{name}/high": interval.high}


def _compared(study: StudyResults, variant: str) -> dict[str, float | None]:
    """Changes in percent of the baseline, and the speed-up in data."""
    values: dict[str, float | None] = {}
    for measure in MEASURES:
        # Perplexity says the same as the loss that it is made from.
        found = None if measure.exponential else change(study, variant, measure)
        for end in ("mean", "low", "high") if found else ():
            share = getattr(found, end)
            key = f"change_percent/{measure.name}" + ("" if end == "mean" else f"/{end}")
            values[key] = None if share is None else 100.0 * share
    return values | _speedup(study, variant)


def _speedup(study: StudyResults, variant: str) -> dict[str, float | None]:
    """By the baseline's other lengths; a crossing inside one schedule is no speed-up."""
    own = study.comparison(variant)
    if own is None or study.analysis is None:
        return {}
    alone = replace(study, analysis=replace(study.analysis, comparisons=(own,)))
    found = next((item.result for item in horizon_speedups(alone)), None)
    if found is None:
        return {}
    return {
        "speedup_data": found.speedup,
        "speedup_data/low": found.low,
        "speedup_data/high": found.high,
    }


def _searched(study: StudyResults, variant: str) -> dict[str, float | None]:
    """What the search found, what of it was luck, and what it cost."""
    if study.search is None or variant not in study.search.variants:
        return {}
    shrunk = next((item for item in shrinkages(study) if item.variant == variant), None)
    ledger = study.search.variants[variant].ledger.model_dump()
    return {
        "tuning_score": shrunk.tuning_score if shrunk else None,
        "shrinkage": shrunk.shrinkage if shrunk else None,
        **_ends("shrinkage", shrunk.interval if shrunk else None),
        **{f"ledger/{name}": float(value) for name, value in ledger.items()},
    }
