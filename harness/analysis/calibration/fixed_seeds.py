"""Studies with a fixed number of seeds: false claims, coverage, power.

Everything is vectorised over studies; tests compare it with the one-study code it stands for.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from harness.analysis.calibration.cells import Cell, Noise, cell, chunks
from harness.analysis.stats.arrays import FloatArray, as_float
from harness.analysis.stats.power import Pairs, power_of_t

SAME = 1e-12
"""Noise of standard deviation 1 that differs by less than this does not differ."""

MARGIN = 3.0
"""In standard deviations of one run: wide enough that few seeds can show equivalence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerPoint:
    """Simulated power against the noncentral t, at one effect in standard deviations of pairs."""

    seeds: int
    effect: float
    found: float
    predicted: float


def family_wise_errors(
    rng: np.random.Generator,
    *,
    noise: Noise,
    comparisons: Sequence[int],
    seeds: int,
    studies: int,
    design: Pairs,
    alpha: float,
    quiet: float = 1.0,
) -> Iterator[Cell]:
    """A/A studies: how often any of K equal variants is called better or worse.

    For K = 1 this is the false-positive rate of one test.

    Args:
        quiet: standard deviation of the baseline's runs, where that of the variants' is 1.
    """
    false = dict.fromkeys(comparisons, 0)
    for size in chunks(studies):
        runs = noise(rng, (size, max(comparisons) + 1, seeds))
        p = p_values(runs[:, 1:], quiet * runs[:, :1], design=design)
        for k in comparisons:
            false[k] += int((p[:, :k] < alpha / k).any(axis=1).sum())
    for k, count in false.items():
        # Exactly alpha only for one paired test; several tests and Welch's may be below.
        exact = k == 1 and design == "paired"
        name = "false positives" if k == 1 else "family-wise error"
        yield cell(
            name if quiet == 1.0 else f"{name}, baseline's noise {quiet:g}",
            design, k, str(seeds), count, studies, alpha, at_most=not exact,
        )  # fmt: skip


def coverages(
    rng: np.random.Generator,
    *,
    noise: Noise,
    comparisons: int,
    seeds: int,
    studies: int,
    alpha: float,
) -> Iterator[Cell]:
    """How often t intervals cover: of one difference, of one mean, of all K differences at once."""
    one = mean = together = 0
    truth = np.linspace(-1.0, 1.0, comparisons)[:, None]
    for size in chunks(studies):
        runs = noise(rng, (size, comparisons + 1, seeds))
        d = runs[:, 1:] + truth - runs[:, :1]
        one += int(_covers(d[:, 0], float(truth[0, 0]), alpha).sum())
        mean += int(_covers(runs[:, 0], 0.0, alpha).sum())
        together += int(_covers(d, truth[:, 0], alpha / comparisons).all(axis=1).sum())
    level = 1.0 - alpha
    n = str(seeds)
    yield cell("coverage of a difference", "paired", 1, n, one, studies, level)
    yield cell("coverage of a mean", "one sample", 1, n, mean, studies, level)
    yield cell(
        "simultaneous coverage", "paired", comparisons, n, together, studies, level, at_least=True
    )


def equivalence_errors(
    rng: np.random.Generator,
    *,
    noise: Noise,
    comparisons: Sequence[int],
    seeds: int,
    studies: int,
    alpha: float,
    shared: bool = True,
) -> Iterator[Cell]:
    """Every variant is exactly the margin away: how often is any of K called equivalent?

    Args:
        shared: whether the K comparisons share alpha; False is each by two tests at alpha (TOST).
    """
    false = dict.fromkeys(comparisons, 0)
    for size in chunks(studies):
        runs = noise(rng, (size, max(comparisons) + 1, seeds))
        d = runs[:, 1:] - runs[:, :1] + MARGIN
        mean, scale = d.mean(axis=2), d.std(axis=2, ddof=1) / np.sqrt(seeds)
        for k in comparisons:
            tail = alpha / k / 2.0 if shared else alpha
            reach = as_float(stats.t.isf(tail, seeds - 1)) * scale[:, :k]
            false[k] += int((np.abs(mean[:, :k]) + reach < MARGIN).any(axis=1).sum())
    for k, count in false.items():
        yield cell(
            "false equivalence", "paired", k, str(seeds), count, studies, alpha, at_most=True
        )


def power_curve(
    rng: np.random.Generator,
    *,
    noise: Noise,
    seeds: Sequence[int],
    effects: Sequence[float],
    studies: int,
    alpha: float,
) -> Iterator[PowerPoint]:
    """How often the paired t test finds an effect, against the noncentral t."""
    for n in seeds:
        found = np.zeros(len(effects))
        for size in chunks(studies):
            runs = noise(rng, (size, 2, n))
            d = (runs[:, 1] - runs[:, 0]) / np.sqrt(2.0)
            mean, share = d.mean(axis=1), d.std(axis=1, ddof=1) / np.sqrt(n)
            critical = as_float(stats.t.isf(alpha / 2.0, n - 1))
            for index, effect in enumerate(effects):
                found[index] += int((np.abs(mean + effect) > critical * share).sum())
        for effect, count in zip(effects, found, strict=True):
            yield PowerPoint(
                seeds=n,
                effect=effect,
                found=float(count) / studies,
                predicted=power_of_t(effect, sd=1.0, seeds=n, alpha=alpha),
            )


def p_values(variant: FloatArray, baseline: FloatArray, *, design: Pairs) -> FloatArray:
    """The p of `paired_t` or `welch_t` for many studies; seeds lie along the last axis.

    Where nothing varies, p is what those functions give: 1, or that of the sign flips.
    """
    n = variant.shape[-1]
    silent = _is_constant(variant) & _is_constant(baseline)
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        if design == "paired":
            d = variant - baseline
            t = d.mean(axis=-1) * np.sqrt(n) / d.std(axis=-1, ddof=1)
            p = 2.0 * special.stdtr(n - 1, -np.abs(t))
            flips = np.where(np.abs(d[..., 0]) > SAME, 2.0 ** (1 - n), 1.0)
            p = np.where(_is_constant(d), flips, p)
        else:
            share = (variant.var(axis=-1, ddof=1) + baseline.var(axis=-1, ddof=1)) / n
            t = (variant.mean(axis=-1) - baseline.mean(axis=-1)) / np.sqrt(share)
            p = 2.0 * special.stdtr(n - 1, -np.abs(t))
    return np.where(silent, 1.0, np.asarray(p, dtype=np.float64))


def _is_constant(values: FloatArray) -> NDArray[np.bool_]:
    return np.asarray(np.ptp(values, axis=-1) <= SAME)


def _covers(values: FloatArray, truth: float | FloatArray, alpha: float) -> FloatArray:
    n = values.shape[-1]
    half = as_float(stats.t.isf(alpha / 2.0, n - 1)) * values.std(axis=-1, ddof=1) / np.sqrt(n)
    return np.asarray(np.abs(values.mean(axis=-1) - truth) <= half)
