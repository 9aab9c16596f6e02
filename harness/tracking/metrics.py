"""Which metrics are logged, under which names: of a report, and of a variant over its seeds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from harness.analysis.measures import MEASURES, change, median_tokens_per_s, perplexity
from harness.analysis.shrinkage import shrinkages
from harness.analysis.speedup import speedup_of
from harness.analysis.stats.intervals import Interval
from harness.analysis.study_results import StudyResults
from harness.training.records import OUTCOMES, Report

FINAL_LOSS = "final_validation_loss"

BY_TOKENS = ("train_loss", "validation_loss", "validation_accuracy", "train_time_s", "tokens_per_s")
"""Fields of a report that get a second curve, over tokens instead of steps."""

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
    """All fields of a report by step, and some of them by tokens.

    A value that is not finite is left out, so the run page shows the last finite one.
    """
    values = report.model_dump(exclude={"router_load", "counters"})
    for name, value in report.counters.items():
        values[f"counters/{name}"] = value
    for layer, shares in enumerate(report.router_load):
        # All shares would be a curve for each expert; they are in the study's files.
        values[f"router/layer_{layer}/largest_share"] = max(shares)
        values[f"router/layer_{layer}/smallest_share"] = min(shares)
    group = metric_group(values, step=report.step)
    by_tokens = tuple(
        (f"by_tokens/{name}", value, report.tokens)
        for name, value, _ in group.values
        if name in BY_TOKENS
    )
    elapsed = report.startup_time_s + report.train_time_s + report.evaluation_time_s
    return MetricGroup(values=group.values + by_tokens, elapsed_s=elapsed)


def with_final_loss(group: MetricGroup, loss: float, step: int) -> MetricGroup:
    """Only a completed trial has a final loss, so this column holds nothing misleading."""
    final = ((FINAL_LOSS, loss, step), ("perplexity", perplexity(loss), step))
    return MetricGroup(values=group.values + final, elapsed_s=group.elapsed_s)


def metric_group(values: dict[str, Any], *, step: int) -> MetricGroup:
    finite = tuple(
        (FORBIDDEN_IN_KEYS.sub("_", key), float(value), step)
        for key, value in values.items()
        if value is not None and math.isfinite(value)
    )
    return MetricGroup(values=finite, elapsed_s=0.0)


def summary_metrics(study: StudyResults, variant: str) -> dict[str, float]:
    """Metrics by name, all finite."""
    trials = study.of(variant)
    values: dict[str, float | None] = {
        **{f"outcomes/{word}": float(sum(t.state == word for t in trials)) for word in OUTCOMES},
        "tokens_per_s": median_tokens_per_s(trials),
        **_analysed(study, variant),
        **_compared(study, variant),
        **_searched(study, variant),
    }
    # A perplexity may be too large for a float; the store takes finite numbers only.
    return {key: v for key, v in values.items() if v is not None and math.isfinite(v)}


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
            **_ends("difference", comparison.simultaneous_interval, prefix="simultaneous_"),
            "p": comparison.p,
            "p_holm": comparison.p_holm,
        }
    return values


def _ends(name: str, interval: Interval | None, *, prefix: str = "") -> dict[str, float]:
    if interval is None:
        return {}
    return {f"{name}/{prefix}low": interval.low, f"{name}/{prefix}high": interval.high}


def _compared(study: StudyResults, variant: str) -> dict[str, float | None]:
    """Changes in percent of the baseline, and the speed-up to the baseline's final loss."""
    values: dict[str, float | None] = {}
    for measure in MEASURES:
        found = change(study, variant, measure)
        for end in ("mean", "low", "high") if found else ():
            share = getattr(found, end)
            key = f"change_percent/{measure.name}" + ("" if end == "mean" else f"/{end}")
            values[key] = None if share is None else 100.0 * share
    own = speedup_of(study, variant)
    for name, ratio in (("steps", own and own.steps), ("seconds", own and own.seconds)):
        if ratio:
            # Of a censored comparison only the bound is a claim.
            values[f"speedup_{name}"] = ratio.ratio if ratio.kind == "about" else None
            values[f"speedup_{name}/low"] = ratio.low
            values[f"speedup_{name}/high"] = ratio.high
    return values


def _searched(study: StudyResults, variant: str) -> dict[str, float | None]:
    """What the search found, what of it was luck, and what it cost."""
    if study.search is None or variant not in study.search.variants:
        return {}
    shrunk = next((item for item in shrinkages(study) if item.variant == variant), None)
    ledger = study.search.variants[variant].ledger.model_dump()
    return {
        "tuning_score": shrunk.tuning_score if shrunk else None,
        "shrinkage": shrunk.shrinkage if shrunk else None,
        **{f"ledger/{name}": float(value) for name, value in ledger.items()},
    }
