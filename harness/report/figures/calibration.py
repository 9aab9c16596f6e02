"""A calibration in four panels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.analysis.calibration.calibrate import COMPARISONS, SEEDS, Calibration
from harness.analysis.calibration.cells import Cell
from harness.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(calibration: Calibration) -> Figure:
    """Four panels: family-wise error, coverage, power, and what looking again costs."""
    from matplotlib.figure import Figure

    from harness.report.figures.canvas import style

    with style():
        figure = Figure(figsize=(8.4, 6.4))
        (errors, coverage), (power, looks) = figure.subplots(2, 2)
        _draw_errors(errors, calibration)
        _draw_coverage(coverage, calibration)
        _draw_power(power, calibration)
        _draw_looks(looks, calibration)
        figure.get_layout_engine().execute(figure)  # type: ignore[union-attr]
    return figure


def save_figure(calibration: Calibration, path: Path) -> None:
    """Writes the figure as PNG, the same bytes for the same calibration.

    Raises:
        UserError: the file cannot be written.
    """
    from harness.report.figures.canvas import png, style

    figure = draw(calibration)
    with style():
        image = png(figure)
    try:
        path.write_bytes(image)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}: give another --figure") from None


def _line(cells: Sequence[Cell], check: str, design: str, comparisons: int) -> list[Cell]:
    wanted = (check, design, comparisons)
    return [cell for cell in cells if (cell.check, cell.design, cell.comparisons) == wanted]


def _draw_errors(axes: Axes, calibration: Calibration) -> None:
    for design, style in (("paired", "o-"), ("unpaired", "s--")):
        for index, k in enumerate(COMPARISONS):
            check = "false positives" if k == 1 else "family-wise error"
            line = _line(calibration.cells, check, design, k)
            axes.plot(
                [int(cell.seeds) for cell in line],
                [cell.rate for cell in line],
                style,
                color=f"C{index}",
                label=f"K = {k}, {design}",
            )
    _band(axes, _line(calibration.cells, "false positives", "paired", 1)[0])
    axes.set(title="Any false verdict", xlabel="seeds", ylim=(0.0, None), xticks=SEEDS)
    axes.legend(fontsize=7, ncols=2)


def _draw_coverage(axes: Axes, calibration: Calibration) -> None:
    lines = (
        ("coverage of a difference", "paired", 1),
        ("coverage of a mean", "one sample", 1),
        ("simultaneous coverage", "paired", 4),
    )
    for check, design, k in lines:
        line = _line(calibration.cells, check, design, k)
        label = check if k == 1 else f"{check}, K = {k}"
        axes.plot(
            [int(cell.seeds) for cell in line], [cell.rate for cell in line], "o-", label=label
        )
    _band(axes, _line(calibration.cells, *lines[0])[0])
    axes.set(title="Coverage of the intervals", xlabel="seeds", xticks=SEEDS)
    axes.legend(fontsize=7)


def _draw_power(axes: Axes, calibration: Calibration) -> None:
    for index, seeds in enumerate(SEEDS):
        points = [point for point in calibration.power if point.seeds == seeds]
        effects = [point.effect for point in points]
        axes.plot(effects, [point.predicted for point in points], "-", color=f"C{index}")
        axes.plot(
            effects,
            [point.found for point in points],
            "o",
            color=f"C{index}",
            label=f"n = {seeds}",
        )
    axes.set(
        title="Power: dots found, lines the noncentral t",
        xlabel="difference / standard deviation of the pairs",
        ylim=(0.0, 1.02),
    )
    axes.legend(fontsize=7)


def _draw_looks(axes: Axes, calibration: Calibration) -> None:
    checks = ("looking after every seed", "looks, bounds for normal z", "looks, calibrated bounds")
    labels = ("after\nevery seed", "bounds for\nnormal z", "calibrated\nbounds")
    for offset, design in ((-0.2, "paired"), (0.2, "unpaired")):
        rates = [_line(calibration.cells, check, design, 1)[0].rate for check in checks]
        bars = axes.bar(np.arange(3) + offset, rates, width=0.38, label=design)
        axes.bar_label(bars, fmt="%.4f", fontsize=7)
    _band(axes, _line(calibration.cells, "false positives", "paired", 1)[0])
    axes.set(title="False positives when seeds are added", xticks=range(3), xticklabels=labels)
    axes.legend(fontsize=7)


def _band(axes: Axes, cell: Cell) -> None:
    axes.axhspan(cell.low, cell.high, color="#888888", alpha=0.25, linewidth=0)
    axes.axhline(cell.nominal, color="#444444", linewidth=0.8)
