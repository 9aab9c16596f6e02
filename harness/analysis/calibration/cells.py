"""A promise and how often simulated studies kept it; the noise that they are drawn from."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from harness.analysis.stats.arrays import MINIMUM_SEEDS, FloatArray, as_float

Noise = Callable[[np.random.Generator, tuple[int, ...]], FloatArray]
"""Draws an array of run-to-run noise with mean 0 and standard deviation 1."""

BOUND = 1e-4
"""A correct machinery leaves the bounds of a cell in 1 of 10,000 calibrations (each side)."""

MINIMUM_RESIDUALS = 10
"""Fewer residuals repeat each other so often that drawn studies have no noise at all."""

_CHUNK = 10_000


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


def chunks(studies: int) -> Iterator[int]:
    """Sizes of the parts in which so many studies are drawn."""
    for start in range(0, studies, _CHUNK):
        yield min(_CHUNK, studies - start)


def cell(
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
    """The cell of a count, with the binomial bounds of its promise."""
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
