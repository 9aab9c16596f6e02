"""Does the machinery keep its promises? Many studies with a known truth, judged as real ones are.

Everything is vectorised over studies; tests compare it with the one-study code it stands for.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from harness.analysis.stats.arrays import MINIMUM_SEEDS, FloatArray, as_float
from harness.analysis.stats.comparison import compare_runs
from harness.analysis.stats.multiplicity import holm
from harness.analysis.stats.power import Pairs, power_of_t
from harness.analysis.stats.sequential import LookBounds

Noise = Callable[[np.random.Generator, tuple[int, ...]], FloatArray]
"""Draws an array of run-to-run noise with mean 0 and standard deviation 1."""

BOUND = 1e-4
"""A correct machinery leaves the bounds of a cell in 1 of 10,000 calibrations (each side)."""

MINIMUM_RESIDUALS = 10
"""Fewer residuals repeat each other so often that drawn studies have no noise at all."""

_CHUNK = 10_000

_SAME = 1e-12
"""Noise of standard deviation 1 that differs by less than this does not differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One promise, checked: `count` of `studies` did what should happen at the rate `nominal`.

    `low` and `high` bound the count's rate if the promise holds (binomial); a promise of "at most"
    has low = 0, one of "at least" high = 1. `passed` is None where nothing was promised and the
    rate is shown as a warning.
    """

    check: str
    design: str
    comparisons: int
    seeds: str
    count: int
    studies: int
    nominal: float
    low: float
    high: float
    passed: bool | None

    @property
    def rate(self) -> float:
        return self.count / self.studies


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerPoint:
    """Simulated power against the noncentral t, at one effect in standard deviations of pairs."""

    seeds: int
    effect: float
    found: float
    predicted: float


def gaussian_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """Standard normal noise."""
    return rng.standard_normal(shape)


def residual_noise(groups: Sequence[ArrayLike]) -> Noise:
    """Noise drawn with replacement from somebody's own results.

    Args:
        groups: the final values of each variant over its seeds; groups below 3 seeds are skipped.

    Each group is centred and divided by `sqrt((n - 1) / n)`, which its own mean has taken; all
    together are scaled to a standard deviation of 1.

    Raises:
        ValueError: fewer than 10 residuals, or results without any noise.
    """
    pool = []
    for group in groups:
        values = np.asarray(group, dtype=np.float64)
        if values.size >= MINIMUM_SEEDS:
            pool.append((values - values.mean()) * np.sqrt(values.size / (values.size - 1)))
    residuals = np.concatenate(pool) if pool else np.zeros(0)
    if residuals.size < MINIMUM_RESIDUALS:
        raise ValueError(
            f"{residuals.size} residuals from variants with {MINIMUM_SEEDS} or more completed "
            f"seeds, at least {MINIMUM_RESIDUALS} are needed: add runs, or use Gaussian noise"
        )
    scale = float(np.sqrt(np.mean((residuals - residuals.mean()) ** 2)))
    if scale == 0.0:
        raise ValueError("the results have no noise: every seed gave the same value")
    standard = (residuals - residuals.mean()) / scale

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
        return np.asarray(rng.choice(standard, size=shape))

    return draw


def family_wise_errors(
    rng: np.random.Generator,
    *,
    noise: Noise,
    comparisons: Sequence[int],
    seeds: int,
    studies: int,
    design: Pairs,
    alpha: float,
) -> Iterator[Cell]:
    """A/A studies: how often Holm calls any of K equal variants better or worse.

    For K = 1 this is the false-positive rate of one test.
    """
    false = dict.fromkeys(comparisons, 0)
    for size in _chunks(studies):
        runs = noise(rng, (size, max(comparisons) + 1, seeds))
        p = p_values(runs[:, 1:], runs[:, :1], design=design)
        for k in comparisons:
            false[k] += int((holm(p[:, :k]) < alpha).any(axis=1).sum())
    for k, count in false.items():
        # Exactly alpha only for one paired test; Holm and Welch may be below.
        exact = k == 1 and design == "paired"
        yield _cell(
            "false positives" if k == 1 else "family-wise error",
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
    for size in _chunks(studies):
        runs = noise(rng, (size, comparisons + 1, seeds))
        d = runs[:, 1:] + truth - runs[:, :1]
        one += int(_covers(d[:, 0], float(truth[0, 0]), alpha).sum())
        mean += int(_covers(runs[:, 0], 0.0, alpha).sum())
        together += int(_covers(d, truth[:, 0], alpha / comparisons).all(axis=1).sum())
    level = 1.0 - alpha
    n = str(seeds)
    yield _cell("coverage of a difference", "paired", 1, n, one, studies, level)
    yield _cell("coverage of a mean", "one sample", 1, n, mean, studies, level)
    yield _cell(
        "simultaneous coverage", "paired", comparisons, n, together, studies, level, at_least=True
    )


def equivalence_error(
    rng: np.random.Generator, *, noise: Noise, seeds: int, studies: int, alpha: float
) -> Cell:
    """How often TOST proves a difference of exactly the margin (3 standard deviations) away."""
    margin, false = 3.0, 0
    critical = as_float(stats.t.isf(alpha, seeds - 1))
    for size in _chunks(studies):
        runs = noise(rng, (size, 2, seeds))
        d = runs[:, 1] - runs[:, 0] + margin
        reach = critical * d.std(axis=1, ddof=1) / np.sqrt(seeds)
        false += int((np.abs(d.mean(axis=1)) < margin - reach).sum())
    return _cell("false equivalence", "paired", 1, str(seeds), false, studies, alpha, at_most=True)


def looking_error(
    rng: np.random.Generator,
    *,
    noise: Noise,
    last: int,
    studies: int,
    design: Pairs,
    alpha: float,
) -> Cell:
    """A/A studies that stop at the first p < alpha, looking after every seed from 3 to `last`."""
    false = 0
    for size in _chunks(studies):
        runs = noise(rng, (size, 2, last))
        p = [
            p_values(runs[:, 1, :n], runs[:, 0, :n], design=design)
            for n in range(MINIMUM_SEEDS, last + 1)
        ]
        false += int((np.stack(p, axis=1) < alpha).any(axis=1).sum())
    return _cell(
        "looking after every seed", design, 1, f"{MINIMUM_SEEDS}..{last}",
        false, studies, alpha, promised=False,
    )  # fmt: skip


def sequential_errors(
    rng: np.random.Generator,
    *,
    noise: Noise,
    bounds: LookBounds,
    normal_nominal_p: Sequence[float],
    studies: int,
) -> Iterator[Cell]:
    """A/A studies that add seeds at fixed looks: with bounds for normal statistics, and with ours.

    The noise is drawn run by run, not as the sums that the calibration of the bounds draws.
    """
    looks = bounds.looks
    normal = calibrated = 0
    for size in _chunks(studies):
        runs = noise(rng, (size, 2, looks[-1]))
        p = np.stack(
            [p_values(runs[:, 1, :n], runs[:, 0, :n], design=bounds.design) for n in looks], axis=1
        )
        normal += int((p < np.asarray(normal_nominal_p)).any(axis=1).sum())
        calibrated += int((p < np.asarray(bounds.nominal_p)).any(axis=1).sum())
    plan = (bounds.design, 1, ", ".join(map(str, looks)))
    yield _cell("looks, bounds for normal z", *plan, normal, studies, bounds.alpha, promised=False)
    yield _cell("looks, calibrated bounds", *plan, calibrated, studies, bounds.alpha, at_most=True)


class _RunEnd(NamedTuple):
    value: float | None
    diverged: bool = False
    diverged_at_step: int | None = None


def divergence_error(
    rng: np.random.Generator,
    *,
    noise: Noise,
    seeds: int,
    studies: int,
    design: Pairs,
    alpha: float,
    rate: float = 0.1,
) -> Cell:
    """A/A studies in which every run diverges with probability `rate`, through `compare_runs`.

    The whole rule is judged: t where all runs completed, else ranks with diverged last.
    """
    false = 0
    for _ in range(studies):
        values = noise(rng, (2, seeds))
        steps = rng.integers(1, 1000, size=(2, seeds))
        diverged = rng.uniform(size=(2, seeds)) < rate
        variant, baseline = (
            [
                _RunEnd(value=None, diverged=True, diverged_at_step=int(steps[side, j]))
                if diverged[side, j]
                else _RunEnd(value=float(values[side, j]))
                for j in range(seeds)
            ]
            for side in (0, 1)
        )
        false += compare_runs(variant, baseline, paired=design == "paired").p < alpha
    return _cell(
        f"false positives, {100 * rate:.3g} % of runs diverge", design, 1, str(seeds),
        false, studies, alpha, at_most=True,
    )  # fmt: skip


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
        for size in _chunks(studies):
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
            flips = np.where(np.abs(d[..., 0]) > _SAME, 2.0 ** (1 - n), 1.0)
            p = np.where(_is_constant(d), flips, p)
        else:
            p = stats.ttest_ind(variant, baseline, axis=-1, equal_var=False).pvalue
    return np.where(silent, 1.0, np.asarray(p, dtype=np.float64))


def _is_constant(values: FloatArray) -> NDArray[np.bool_]:
    return np.asarray(np.ptp(values, axis=-1) <= _SAME)


def _covers(values: FloatArray, truth: float | FloatArray, alpha: float) -> FloatArray:
    n = values.shape[-1]
    half = as_float(stats.t.isf(alpha / 2.0, n - 1)) * values.std(axis=-1, ddof=1) / np.sqrt(n)
    return np.asarray(np.abs(values.mean(axis=-1) - truth) <= half)


def _chunks(studies: int) -> Iterator[int]:
    for start in range(0, studies, _CHUNK):
        yield min(_CHUNK, studies - start)


def _cell(
    check: str,
    design: str,
    comparisons: int,
    seeds: str,
    count: int,
    studies: int,
    nominal: float,
    *,
    at_most: bool = False,
    at_least: bool = False,
    promised: bool = True,
) -> Cell:
    low = 0.0 if at_most else as_float(stats.binom.ppf(BOUND, studies, nominal)) / studies
    high = 1.0 if at_least else as_float(stats.binom.isf(BOUND, studies, nominal)) / studies
    return Cell(
        check=check,
        design=design,
        comparisons=comparisons,
        seeds=seeds,
        count=count,
        studies=studies,
        nominal=nominal,
        low=low,
        high=high,
        passed=low <= count / studies <= high if promised else None,
    )
