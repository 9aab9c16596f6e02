"""What the summary run of a variant holds: what the UI cannot compute from the trials."""

from __future__ import annotations

import math

from harness.report.measures import MEASURES, change
from harness.report.rows import perplexity
from harness.report.speedups import speedups
from harness.report.tables import median_tokens_per_s
from harness.report.tuned import shrinkages
from harness.report.view import OUTCOMES, StudyView

FINAL_LOSS = "final_validation_loss"


def summary_values(view: StudyView, variant: str) -> dict[str, float]:
    """Metrics by name, all finite."""
    trials = view.of(variant)
    values: dict[str, float | None] = {
        **{f"outcomes/{word}": float(sum(t.state == word for t in trials)) for word in OUTCOMES},
        "tokens_per_s": median_tokens_per_s(trials),
        **_analysed(view, variant),
        **_compared(view, variant),
        **_searched(view, variant),
    }
    # A perplexity may be too large for a float; the store takes finite numbers only.
    return {key: v for key, v in values.items() if v is not None and math.isfinite(v)}


def _analysed(view: StudyView, variant: str) -> dict[str, float | None]:
    summary, comparison = view.summary(variant), view.comparison(variant)
    values: dict[str, float | None] = {}
    if summary:
        interval = summary["interval"] or {}
        values |= {
            FINAL_LOSS: summary["mean"],
            f"{FINAL_LOSS}/sd": summary["sd"],
            f"{FINAL_LOSS}/low": interval.get("low"),
            f"{FINAL_LOSS}/high": interval.get("high"),
            "n": float(summary["n"]),
        }
        values["perplexity"] = None if summary["mean"] is None else perplexity(summary["mean"])
    if comparison:
        interval = comparison["interval"] or {}
        wide = comparison["simultaneous_interval"] or {}
        values |= {
            "difference": comparison["mean_difference"],
            "difference/low": interval.get("low"),
            "difference/high": interval.get("high"),
            "difference/simultaneous_low": wide.get("low"),
            "difference/simultaneous_high": wide.get("high"),
            "p": comparison["p"],
            "p_holm": comparison["p_holm"],
        }
    return values


def _compared(view: StudyView, variant: str) -> dict[str, float | None]:
    """Changes in percent of the baseline, and the speed-up to the baseline's final loss."""
    values: dict[str, float | None] = {}
    for measure in MEASURES:
        found = change(view, variant, measure)
        for end in ("mean", "low", "high") if found else ():
            share = getattr(found, end)
            key = f"change_percent/{measure.name}" + ("" if end == "mean" else f"/{end}")
            values[key] = None if share is None else 100.0 * share
    own = next((item for item in speedups(view) if item.variant == variant), None)
    for name, ratio in (("steps", own and own.steps), ("seconds", own and own.seconds)):
        if ratio:
            # Of a censored comparison only the bound is a claim.
            values[f"speedup_{name}"] = ratio.ratio if ratio.kind == "about" else None
            values[f"speedup_{name}/low"] = ratio.low
            values[f"speedup_{name}/high"] = ratio.high
    return values


def _searched(view: StudyView, variant: str) -> dict[str, float | None]:
    """What the search found, what of it was luck, and what it cost."""
    if view.tuning is None or variant not in view.tuning.variants:
        return {}
    shrunk = next((item for item in shrinkages(view) if item.variant == variant), None)
    ledger = view.tuning.variants[variant].ledger.model_dump()
    return {
        "tuning_score": shrunk.tuning_score if shrunk else None,
        "shrinkage": shrunk.shrinkage if shrunk else None,
        **{f"ledger/{name}": float(value) for name, value in ledger.items()},
    }
