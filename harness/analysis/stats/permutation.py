"""Exact tests that need no distribution: sign flips within pairs, relabelling between groups."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from harness.analysis.stats.arrays import FloatArray, as_float

ARRANGEMENTS = 19_999
"""SciPy enumerates up to so many arrangements (14 pairs, or 8 against 8) and beyond draws so many.

Drawn, with the observed one that is 20,000: the standard error of p = 0.05 is 0.0015.
"""


def minimum_sign_flip_p(pairs: int) -> float:
    """The smallest two-sided p that `pairs` seeds can give in a sign-flip test: `2^(1 - n)`.

    Only the observed arrangement and its mirror image are as extreme: 2 of 2^n.
    """
    if pairs < 1:
        raise ValueError(f"pairs ({pairs}) must be at least 1")
    return 2.0 ** (1 - pairs)


def minimum_permutation_p(variant: int, baseline: int) -> float:
    """The smallest two-sided p of relabelling two groups: `2 / C(n_x + n_y, n_x)`, at most 1.

    With unequal sizes the mirror image is no relabelling; SciPy doubles the smaller tail, so the
    factor 2 stays.
    """
    if min(variant, baseline) < 1:
        raise ValueError(f"group sizes ({variant}, {baseline}) must be at least 1")
    return min(1.0, 2.0 / math.comb(variant + baseline, variant))


def sign_flip_p(differences: ArrayLike, *, rng: np.random.Generator | None = None) -> float:
    """The two-sided p of `mean(d)` under all sign changes of the paired differences.

    Claim: exact if, without an effect, `d` and `-d` are equally likely within every pair.

    Args:
        differences: shape (n,), variant - baseline; any score will do, ranks too.
        rng: draws the arrangements beyond 14 pairs; left out, the same ones every time.

    Source: `scipy.stats.permutation_test(permutation_type="samples")`.
    """
    d = np.asarray(differences, dtype=np.float64)
    result = stats.permutation_test(
        (d,),
        _mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=ARRANGEMENTS,
        rng=_generator(rng),
    )
    return as_float(result.pvalue)


def permutation_p(
    variant: ArrayLike, baseline: ArrayLike, *, rng: np.random.Generator | None = None
) -> float:
    """The two-sided p of a difference of means under all relabellings of two independent groups.

    Args:
        variant, baseline: shapes (n_x,) and (n_y,); any score will do, ranks too.
        rng: draws the arrangements if they are too many; left out, the same ones every time.

    Source: `scipy.stats.permutation_test(permutation_type="independent")`.
    """
    x, y = np.asarray(variant, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    result = stats.permutation_test(
        (x, y),
        _difference_of_means,
        permutation_type="independent",
        vectorized=True,
        n_resamples=ARRANGEMENTS,
        rng=_generator(rng),
    )
    return as_float(result.pvalue)


def _generator(rng: np.random.Generator | None) -> np.random.Generator:
    return np.random.default_rng(0) if rng is None else rng


def _mean(x: FloatArray, axis: int) -> FloatArray:
    return np.asarray(x.mean(axis=axis))


def _difference_of_means(x: FloatArray, y: FloatArray, axis: int) -> FloatArray:
    return np.asarray(x.mean(axis=axis) - y.mean(axis=axis))
