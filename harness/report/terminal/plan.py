"""What a plan will do and what its seeds can show, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.report.numbers import duration


def twins_sentence(names: Sequence[str]) -> str:
    """What is said of variants that are one configuration under several names."""
    return f"{' and '.join(names)} are the same configuration: it is trained once a seed"


def render_plan(summary: dict[str, Any]) -> RenderableType:
    time_s = summary["estimated_time_s"]
    margin = "none: equivalence is not tested"
    if summary["margin_nats"] is not None:
        margin = f"{summary['margin_nats']:g} nats"
    elif summary["margin_speedup_percent"] is not None:
        margin = f"a speed-up of {summary['margin_speedup_percent']:g} %"
    table = Table(box=None, show_header=False, pad_edge=False)
    for label, value in {
        "question": summary["question"] or "-",
        "baseline": summary["baseline"],
        "against": ", ".join(v for v in summary["variants"] if v != summary["baseline"]),
        "estimand": summary["estimand"],
        "alpha": f"{summary['alpha']:g}, family-wise (Holm)",
        "margin": margin,
        "looks": ", ".join(map(str, summary["looks"])) + " seeds",
        "seeds": f"{summary['seeds']['confirmation']} measure, "
        f"{summary['seeds']['tuning'] or 'none'} choose",
        "search": _search_text(summary["tuning"]),
        "trials": f"{summary['trials']} ({summary['training_runs']} training runs), "
        f"{summary['tokens']:,} tokens with the search",
        "time": "unknown until one trial has finished"
        if time_s is None
        else duration(time_s, rough=True),
        "plan hash": summary["plan_sha256"],
    }.items():
        table.add_row(Text(label, style="bold"), str(value))
    title = Text(summary["study"], style="bold underline")
    notices = [f"{twins_sentence(names)}." for names in summary["same_configuration"]]
    return Group(title, table, *map(Text, [*notices, *summary["can_show"]]))


def _search_text(budget: dict[str, Any] | None) -> str:
    if budget is None:
        return "none: the variants compete with the settings they name"
    return (
        f"{budget['searcher']}: {budget['configurations_per_variant']} configurations of every "
        f"variant ({budget['training_runs_per_variant']} training runs, at most "
        f"{budget['tokens_per_variant']:,} tokens each)"
    )
