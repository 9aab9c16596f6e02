"""What a plan will do and what its seeds can show, for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.report.numbers import duration

ROWS = (3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 50, 100)
"""Numbers of seeds that the table shows, beside the planned one and the looks."""
WIDTH, HEIGHT = 60, 10
"""Characters of the plot: at most between its axes, and above zero."""
FOUND, OTHER, BOTH = "●○◐"


def twins_sentence(names: Sequence[str]) -> str:
    """What is said of variants that are one configuration under several names."""
    return f"{' and '.join(names)} are the same configuration: it is trained once a seed"


def render_plan(summary: dict[str, Any]) -> RenderableType:
    """The plan, the table and the curve of power over seeds, and the looks."""
    title = Text(summary["study"], style="bold underline")
    notices = [f"{twins_sentence(names)}." for names in summary["same_configuration"]]
    parts: list[RenderableType] = [title, _facts(summary), *map(Text, notices)]
    parts += (Text(line, style="yellow") for line in summary["additions"])
    parts += map(Text, summary["can_show"])
    if curve := summary["power_curve"]:
        parts += [_table(curve, summary["look_plan"]), _plot(curve)]
        parts += [Text(), *_looks(summary)]
    return Group(*parts)


def _facts(summary: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in _labelled(summary):
        table.add_row(Text(label, style="bold"), Text(value))
    return table


def _labelled(summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    seeds, k = summary["seeds"], summary["comparisons"]
    yield "question", summary["question"] or "-"
    yield "baseline", summary["baseline"]
    yield "against", ", ".join(v for v in summary["variants"] if v != summary["baseline"]) or "-"
    yield "estimand", summary["estimand"]
    yield "alpha", f"{summary['alpha']:g}" + (f", shared by {k} comparisons" if k > 1 else "")
    yield "margin", _margin_text(summary)
    yield "noise", _noise_text(summary)
    yield "looks", ", ".join(map(str, summary["looks"])) + " seeds"
    yield "seeds", f"{seeds['confirmation']} measure, {seeds['tuning'] or 'none'} choose"
    yield "search", _search_text(summary["tuning"])
    yield "arithmetic", _arithmetic_text(summary["arithmetic"])
    if horizons := summary["horizons"]:
        steps = ", ".join(map(str, horizons["steps"]))
        runs = horizons["training_runs"]
        yield (
            "horizons",
            f"{summary['baseline']} at {steps} steps too: {runs} training runs, "
            f"{horizons['tokens']:,} tokens",
        )
    tokens = f"{summary['tokens']:,} tokens"
    if summary["tuning"]:
        tokens = f"at most {tokens}, the search included"
    variants, per_variant = len(summary["variants"]), len(seeds["confirmation"])
    yield "trials", f"{summary['trials']}: {variants} variants x {per_variant} seeds"
    yield "cost", f"{summary['training_runs']} training runs that measure; {tokens}"
    time_s = summary["estimated_time_s"]
    yield (
        "time",
        "unknown until one trial has finished" if time_s is None else duration(time_s, rough=True),
    )
    yield "plan hash", summary["plan_sha256"]


def _arithmetic_text(arithmetic: dict[str, Any]) -> str:
    text = f"training in {arithmetic['precision']} on {arithmetic['device_type']}"
    if dtypes := sorted(set(arithmetic["ns_dtype"].values())):
        text += f", Newton-Schulz in {' and '.join(dtypes)}"
    if found := arithmetic["resolution"]:
        reason = found["reason"].partition(": ")[2]
        text += f" (auto is {found['ns_dtype']}, decided on {found['device']}: {reason})"
    return text


def _margin_text(summary: dict[str, Any]) -> str:
    if summary["margin_nats"] is not None:
        return f"{summary['margin_nats']:g} nats"
    if summary["margin_speedup_percent"] is not None:
        return f"a speed-up of {summary['margin_speedup_percent']:g} %"
    return "none: equivalence is not tested"


def _noise_text(summary: dict[str, Any]) -> str:
    sigma, source = summary["sigma"], summary["sigma_source"]
    if sigma is None:
        return "unknown: differences are in standard deviations of one run; --sigma gives nats"
    return f"{sigma:.3g} nats, the standard deviation of one run ({source})"


def _search_text(budget: dict[str, Any] | None) -> str:
    if budget is None:
        return "none: the variants compete with the settings they name"
    return (
        f"{budget['searcher']}: {budget['configurations_per_variant']} configurations of every "
        f"variant ({budget['training_runs_per_variant']} training runs, at most "
        f"{budget['tokens_per_variant']:,} tokens each)"
    )


def _table(curve: dict[str, Any], looks: dict[str, Any] | None) -> RenderableType:
    rule, points = curve["rule"], curve["points"]
    in_nats, with_margin = rule["sigma"] is not None, points[0]["finds_margin"] is not None
    table = Table(box=box.SIMPLE, padding=(0, 1), pad_edge=False)
    table.add_column("seeds", justify="right")
    table.add_column(f"found with {100 * rule['power']:.4g} %", justify="right")
    if in_nats:
        table.add_column("in nats", justify="right")
    if with_margin:
        table.add_column("finds the margin", justify="right")
        table.add_column("shows equivalence", justify="right")
    else:
        table.add_column("finds 2 sd", justify="right")
        table.add_column("finds 1 sd", justify="right")
    named = {curve["planned"], points[-1]["seeds"], *(looks["looks"] if looks else ())}
    for point in points:
        if point["seeds"] in named or point["seeds"] in ROWS:
            is_planned = point["seeds"] == curve["planned"]
            cells = [f"{'▸ ' if is_planned else ''}{point['seeds']}"]
            cells.append(f"{point['detectable_in_sigmas']:.2f} sd")
            cells += [f"{point['detectable_nats']:.3g}"] if in_nats else []
            cells += [f"{100 * power:.0f} %" for power in _powers(point)]
            table.add_row(*cells, style="bold" if is_planned else None)
    return table


def _powers(point: dict[str, Any]) -> tuple[float, float]:
    """The two curves of the plot: about the margin where it is known."""
    if point["finds_margin"] is None:
        return point["finds_two_sigmas"], point["finds_one_sigma"]
    return point["finds_margin"], point["shows_equivalence"]


def _plot(curve: dict[str, Any]) -> RenderableType:
    """Power over seeds, a column for each number of seeds."""
    points, wanted = curve["points"], curve["rule"]["power"]
    step = max(1, WIDTH // len(points)) if len(points) <= WIDTH else WIDTH / len(points)
    column = {point["seeds"]: int(index * step) for index, point in enumerate(points)}
    width = max(column.values()) + 1
    canvas = [[" "] * width for _ in range(HEIGHT + 1)]
    canvas[_row(wanted)] = list("┈" * width)
    for point in points:
        for power, mark in zip(_powers(point), (FOUND, OTHER), strict=True):
            row, x = canvas[_row(power)], column[point["seeds"]]
            row[x] = BOTH if row[x] == FOUND and mark == OTHER else mark
    lines = [
        f"{_label(row, wanted)} ┤{''.join(cells)}".rstrip() for row, cells in enumerate(canvas)
    ]
    lines.append(f"      └{'─' * width}")
    lines.append("      " + _ticks(column, curve["planned"]))
    legend = Text("\n".join(_legend(curve)))
    return Group(Text("\n".join(lines)), Padding(legend, (0, 0, 0, 7)))


def _row(power: float) -> int:
    return HEIGHT - round(power * HEIGHT)


def _label(row: int, wanted: float) -> str:
    shown = {_row(1.0): "100 %", _row(0.5): "50 %", _row(0.0): "0 %"}
    return (shown | {_row(wanted): f"{100 * wanted:.4g} %"}).get(row, "").rjust(5)


def _ticks(column: dict[int, int], planned: int) -> str:
    """Numbers of seeds under their columns as far as they fit; the planned one is marked."""
    line = [" "] * (WIDTH + 4)  # the first one is left of the axis
    for seeds in (planned, *column):
        text = f"▸{seeds}" if seeds == planned else str(seeds)
        start = column[seeds] + (0 if seeds == planned else 1)
        around = line[max(0, start - 1) : start + len(text) + 1]
        if not "".join(around).strip():
            line[start : start + len(text)] = text
    return "".join(line).rstrip() + "  seeds"


def _legend(curve: dict[str, Any]) -> tuple[str, str]:
    rule = curve["rule"]
    if curve["points"][0]["finds_margin"] is None:
        return (
            f"{FOUND} probability to find a true difference of 2 sd",
            f"{OTHER} of 1 sd; sd: standard deviation of one run",
        )
    return (
        f"{FOUND} probability to find a true difference of the margin, {rule['margin']:g} nats",
        f"{OTHER} to show equivalence within it, if nothing differs",
    )


def _looks(summary: dict[str, Any]) -> Iterator[RenderableType]:
    looks, (first, *others) = summary["look_plan"], summary["look_sentences"]
    yield Text(first)
    if looks and not looks["declared"]:
        yield Text(f"\n    [analysis]\n    {looks['line']}\n")
    yield from map(Text, others)
