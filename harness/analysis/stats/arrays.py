"""What every test in this package asks of its arrays."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

MINIMUM_SEEDS = 3
"""Two seeds give one degree of freedom: a t interval 13 standard errors wide (12.7 at 95 %)."""

FRAGILE_SEEDS = 5
"""From 3 to 5 seeds one odd run still decides: results are labelled fragile."""

_ROUNDING = 32 * float(np.finfo(np.float64).eps)
"""Subtracting two equal offsets leaves a few units in the last place, never 32."""


def sample(values: ArrayLike, *, name: str, minimum: int = MINIMUM_SEEDS) -> FloatArray:
    """One finite number a seed, as a float64 vector of shape (n,).

    Raises:
        ValueError: not one-dimensional, not finite, or fewer than `minimum` values.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}: give one value a seed, shape (n,)")
    if array.size < minimum:
        raise ValueError(
            f"{name} has {array.size} seed(s), at least {minimum} are needed: run more seeds"
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} holds values that are not finite: "
            "a run without a final value is an outcome (diverged, failed), not a number"
        )
    return array


def paired_samples(variant: ArrayLike, baseline: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Two vectors of shape (n,) whose entries belong together, seed by seed.

    Raises:
        ValueError: as `sample`, or the lengths differ.
    """
    x, y = sample(variant, name="variant"), sample(baseline, name="baseline")
    if x.size != y.size:
        raise ValueError(
            f"variant has {x.size} seeds and baseline {y.size}: "
            "pairs need the same seeds on both sides"
        )
    return x, y


def is_constant(values: FloatArray, *, scale: float | None = None) -> bool:
    """Whether the values differ by no more than rounding at the magnitude `scale`."""
    magnitude = float(np.abs(values).max()) if scale is None else scale
    return float(np.ptp(values)) <= _ROUNDING * magnitude


@contextmanager
def one_side_may_be_constant() -> Iterator[None]:
    """Silences SciPy's warning about identical values where `is_constant` was asked before."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Precision loss occurred")
        yield


def check_level(value: float, *, name: str) -> float:
    """A probability strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} ({value}) must lie strictly between 0 and 1")
    return value


def as_float(value: object) -> float:
    """A SciPy scalar as a Python float (its stubs return unions of arrays and scalars)."""
    return float(cast(float, value))
