"""Which simultaneous intervals decide? The power and the error of the candidates, by simulation.

    python docs/figures/simultaneous_intervals.py

writes docs/images/simultaneous-intervals.png and prints the tables of docs/explanation/verdicts.md.
All candidates are judged at alpha = 0.05 on the same drawn studies of K variants and one baseline:

- Bonferroni: t intervals at 1 - alpha / K, each with the noise of its own comparison.
- Holm: the step-down test. Its own compatible bounds say only the sign of what it rejects.
- max-t: t intervals, each with its own noise; one critical value from the joint distribution of
  the K statistics if all runs have one variance (correlation 1/2 through the shared baseline).
- Dunnett: as max-t, with one noise estimate pooled over all variants (seeds as blocks if paired).

Power is the share of the better variants that are called better, where all of them are, and where
every second one is. The true difference is the one that a single t test (K = 1) finds with
probability 0.8, so that each loss is the price of K. Error is the share of studies without any
difference in which any variant is called better or worse.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import special

from harness.analysis.stats.power import Pairs, detectable_difference
from harness.report.figures.canvas import png, style

Floats = NDArray[np.float64]
PNG = Path(__file__).parents[1] / "images" / "simultaneous-intervals.png"
ALPHA = 0.05
COMPARISONS, SEEDS = (1, 3, 9, 18), (3, 5, 8, 20)
DESIGNS: tuple[Pairs, ...] = ("paired", "unpaired")
SHOWN: tuple[tuple[int, Pairs], ...] = (
    (3, "paired"),
    (5, "paired"),
    (8, "paired"),
    (20, "paired"),
    (8, "unpaired"),
)
CANDIDATES = ("Bonferroni", "Holm", "max-t", "Dunnett")
SPREADS: dict[str, Callable[[int], Floats]] = {
    "one variance": lambda k: np.ones(k + 1),
    # As in the quickstart, where AdamW's final loss varies ten times as much as Muon's.
    "noisy baseline": lambda k: np.r_[1.0, np.full(k, 0.1)],
    "quiet baseline": lambda k: np.r_[0.1, np.ones(k)],
    "one noisy variant": lambda k: np.r_[0.1, 1.0, np.full(k - 1, 0.1)],
}
"""Standard deviation of a run of the baseline and of each variant."""


@dataclass(frozen=True)
class Statistics:
    """Of many studies: own t statistics with their p, and those with the pooled noise."""

    t: Floats  # (studies, K)
    p: Floats
    pooled: Floats


def statistics(runs: Floats, design: Pairs) -> Statistics:
    """`runs` has shape (studies, K + 1, n), the baseline first."""
    k, n = runs.shape[1] - 1, runs.shape[2]
    base, own = runs[:, :1], runs[:, 1:]
    difference = (own - base).mean(axis=2)
    if design == "paired":
        share = (own - base).var(axis=2, ddof=1) / n
        centred = runs - runs.mean(axis=2, keepdims=True)
        residuals = centred - centred.mean(axis=1, keepdims=True)
        pooled = (residuals**2).sum(axis=(1, 2)) / ((n - 1) * k)
    else:
        parts = runs.var(axis=2, ddof=1) / n
        share = parts[:, 1:] + parts[:, :1]
        pooled = runs.var(axis=2, ddof=1).mean(axis=1)
    t = difference / np.sqrt(share)
    return Statistics(
        t=t,
        p=2.0 * special.stdtr(n - 1.0, -np.abs(t)),
        pooled=difference / np.sqrt(2.0 * pooled / n)[:, None],
    )


def critical_values(rng: np.random.Generator, k: int, n: int, design: Pairs) -> tuple[float, float]:
    """Upper alpha points of max |t| without an effect: own noise (as p), pooled (as t)."""
    null = statistics(rng.standard_normal((200_000 // k, k + 1, n)), design)
    smallest = float(np.quantile(null.p.min(axis=1), ALPHA))
    return smallest, float(np.quantile(np.abs(null.pooled).max(axis=1), 1.0 - ALPHA))


def holm(p: Floats) -> Floats:
    """Step-down adjusted p values along the last axis (Holm, Scandinavian Journal of Statistics 6
    (1979) 65-70)."""
    order = np.argsort(p, axis=-1)
    factors = np.arange(p.shape[-1], 0, -1)
    stepped = np.maximum.accumulate(np.take_along_axis(p, order, axis=-1) * factors, axis=-1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(stepped, 1.0), axis=-1)
    return adjusted


def calls(found: Statistics, critical: tuple[float, float]) -> dict[str, NDArray[np.bool_]]:
    """Which variants each candidate calls different, shape (studies, K)."""
    k = found.t.shape[1]
    return {
        "Holm": holm(found.p) < ALPHA,
        "Bonferroni": found.p < ALPHA / k,
        "max-t": found.p < critical[0],
        "Dunnett": np.abs(found.pooled) > critical[1],
    }


@dataclass(frozen=True)
class Row:
    """`rates` are power, or the error under the named spread of the noise."""

    what: str
    design: Pairs
    comparisons: int
    seeds: int
    rates: dict[str, float]


def simulate(rng: np.random.Generator, studies: int) -> Iterator[Row]:
    for design in DESIGNS:
        for n in SEEDS:
            unit = np.sqrt(2.0) if design == "paired" else 1.0
            effect = detectable_difference(sd=unit, seeds=n, design=design)
            for k in COMPARISONS:
                critical = critical_values(rng, k, n, design)
                for what, every in (("all", 1), ("half", 2)):
                    runs = rng.standard_normal((studies, k + 1, n))
                    runs[:, 1::every] -= effect
                    called = calls(statistics(runs, design), critical)
                    power = {name: float(some[:, ::every].mean()) for name, some in called.items()}
                    yield Row(f"power, {what}", design, k, n, power)
                for name, spread in SPREADS.items():
                    runs = rng.standard_normal((studies, k + 1, n)) * spread(k)[:, None]
                    called = calls(statistics(runs, design), critical)
                    errors = {c: float(some.any(axis=1).mean()) for c, some in called.items()}
                    yield Row(f"error, {name}", design, k, n, errors)


def tables(rows: list[Row]) -> str:
    """Power by n and K; for each kind of noise the largest error over n and K."""
    heading = " | ".join(CANDIDATES)
    lines = [f"| paired seeds | K | better | {heading} |", "| --- " * 7 + "|"]
    for row in rows:
        told = row.design == "paired" and row.comparisons > 1 and row.seeds > min(SEEDS)
        if row.what.startswith("power") and told:
            rates = " | ".join(f"{row.rates[name]:.2f}" for name in CANDIDATES)
            share = row.what.removeprefix("power, ")
            lines.append(f"| {row.seeds} | {row.comparisons} | {share} | {rates} |")
    lines += ["", f"| largest error | design | {heading} |", "| --- " * 6 + "|"]
    for spread in SPREADS:
        for design in DESIGNS:
            worst = " | ".join(f"{_worst(rows, spread, design, name):.3f}" for name in CANDIDATES)
            lines.append(f"| {spread} | {design} | {worst} |")
    return "\n".join(lines)


def _worst(rows: list[Row], spread: str, design: Pairs, name: str) -> float:
    some = [r for r in rows if (r.what, r.design) == (f"error, {spread}", design)]
    return max(row.rates[name] for row in some)


def draw(rows: list[Row]) -> Figure:
    with style():
        figure = Figure(figsize=(8.4, 5.6))
        panels = figure.subplots(2, 3)
        for axes, (n, design) in zip(panels.flat, SHOWN, strict=False):
            for name, marker in zip(CANDIDATES, "os^D", strict=True):
                for what, line in (("all", "-"), ("half", ":")):
                    some = [
                        r
                        for r in rows
                        if (r.what, r.design, r.seeds) == (f"power, {what}", design, n)
                    ]
                    axes.plot(
                        [r.comparisons for r in some],
                        [r.rates[name] for r in some],
                        marker=marker,
                        linestyle=line,
                        color=f"C{CANDIDATES.index(name)}",
                        label=name if what == "all" else None,
                    )
            axes.set(title=f"power, {n} {design} seeds", xlabel="variants (K)", ylim=(0.0, 1.02))
            axes.set_xticks(COMPARISONS)
        _draw_errors(panels.flat[-1], rows)
        panels.flat[0].legend(fontsize=7)
        figure.get_layout_engine().execute(figure)  # type: ignore[union-attr]
    return figure


def _draw_errors(axes: Axes, rows: list[Row]) -> None:
    for index, name in enumerate(CANDIDATES):
        worst = [
            max(_worst(rows, spread, design, name) for design in DESIGNS) for spread in SPREADS
        ]
        axes.barh(np.arange(len(SPREADS)) + 0.2 * index - 0.3, worst, height=0.18)
    axes.axvline(ALPHA, color="#444444", linewidth=0.8)
    axes.set_yticks(range(len(SPREADS)), list(SPREADS), fontsize=7)
    axes.invert_yaxis()
    axes.set(title="largest error", xlim=(0.0, 0.6))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--studies", type=int, default=20_000, help="drawn for each cell")
    parser.add_argument("--output", type=Path, default=PNG, help="PNG to write")
    arguments = parser.parse_args()
    rows = list(simulate(np.random.default_rng(20_261_126), arguments.studies))
    figure = draw(rows)
    with style():
        arguments.output.write_bytes(png(figure))
    print(tables(rows))


if __name__ == "__main__":
    main()
