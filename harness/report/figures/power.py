"""What each number of seeds can show, in two panels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(summary: dict[str, Any]) -> Figure:
    """The difference that is found and the power, both over seeds.

    Args:
        summary: of `harness.analysis.plan_summary`, with a curve.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from harness.report.figures.canvas import lay_out, style

    curve = summary["power_curve"]
    with style():
        figure = Figure(figsize=(8.4, 3.6))
        FigureCanvasAgg(figure)
        detectable, power = figure.subplots(1, 2)
        _draw_detectable(detectable, curve)
        _draw_power(power, curve)
        for axes in (detectable, power):
            _mark_seeds(axes, curve, summary["look_plan"])
        lay_out(figure)
    return figure


def save_figure(summary: dict[str, Any], path: Path) -> None:
    """Writes the figure as PNG, the same bytes for the same plan.

    Raises:
        UserError: there is nothing to draw, or the file cannot be written.
    """
    from harness.report.figures.canvas import png, style

    if summary["power_curve"] is None:
        raise UserError("--figure: the study has one variant only, so no comparison has a power")
    figure = draw(summary)
    with style():
        image = png(figure)
    try:
        path.write_bytes(image)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}: give another --figure") from None


def _draw_detectable(axes: Axes, curve: dict[str, Any]) -> None:
    from matplotlib.ticker import LogLocator

    rule = curve["rule"]
    key, unit = "detectable_nats", "nats"
    if rule["sigma"] is None:
        key, unit = "detectable_in_sigmas", "standard deviations of one run"
    axes.plot(_seeds(curve), [point[key] for point in curve["points"]], "o-")
    if rule["margin"] is not None and rule["sigma"] is not None:
        axes.axhline(rule["margin"], color="C1", linestyle="--", label="the margin")
        axes.legend()
    axes.set(
        title=f"Difference found with {100 * rule['power']:.4g} %",
        ylabel=unit,
        yscale="log",
    )
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")


def _draw_power(axes: Axes, curve: dict[str, Any]) -> None:
    rule, points = curve["rule"], curve["points"]
    if points[0]["finds_margin"] is None:
        lines = {
            "finds_two_sigmas": "finds 2 sd of one run",
            "finds_one_sigma": "finds 1 sd",
        }
    else:
        lines = {
            "finds_margin": f"finds the margin, {rule['margin']:g} nats",
            "shows_equivalence": "shows equivalence within it",
        }
    for (key, label), marker in zip(lines.items(), ("o-", "s--"), strict=True):
        axes.plot(_seeds(curve), [point[key] for point in points], marker, label=label)
    axes.axhline(rule["power"], color="#888888", linewidth=0.8)
    k = rule["comparisons"]
    shared = f", shared by {k}" if k > 1 else ""
    axes.set(title=f"Power at alpha {rule['alpha']:g}{shared}", ylim=(0.0, 1.02))
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend(fontsize=8)


def _mark_seeds(axes: Axes, curve: dict[str, Any], looks: dict[str, Any] | None) -> None:
    """The planned number, and the looks before it."""
    from matplotlib.ticker import MaxNLocator

    planned = curve["planned"]
    axes.axvline(planned, color="#222222", linewidth=0.8)
    for look in looks["looks"] if looks else ():
        if look != planned:
            axes.axvline(look, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_xlabel("seeds a side (line: planned, dotted: looks)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _seeds(curve: dict[str, Any]) -> list[int]:
    return [point["seeds"] for point in curve["points"]]
