"""Exact tests that need no distribution: sign flips within pairs, relabelling between groups.

A few seeds have few arrangements, and SciPy enumerates them all. Of more it draws some, and the
observed one counts as one of them, so that the p is valid either way and never 0 (Phipson and
Smyth, Statistical Applications in Genetics and Molecular Biology 9 (2010) 39).
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from harness.analysis.stats.arrays import FloatArray, as_float

ARRANGEMENTS = 19_999
"""So many are enumerated (14 pairs, or 8 against 8) or, of more, drawn.

Drawn, with the observed one that is 20,000: the standard error of p = 0.05 is 0.0022, as p is twice
the smaller tail.
"""

FEWEST_DRAWN = 1_999
"""So many at least: p = 0.05 then has a standard error of 0.007, and the smallest p is 0.001."""

VALUES_DRAWN = 40_000_000
"""What one test arranges, in about a second: of more than 2,000 values fewer are drawn."""

VALUES_AT_ONCE = 1_000_000
"""Values that lie in memory at once, 8 MB an array."""


def minimum_sign_flip_p(pairs: int) -> float:
    """The smallest two-sided p that `pairs` seeds can give in a sign-flip test.

    `2^(1 - n)` where all are enumerated, up to 14 pairs: only the observed arrangement and its
    mirror image are as extreme, 2 of 2^n. Where N are drawn, `2 / (N + 1)`: the observed one of
    N + 1, and twice that tail. (With 15 or 16 pairs the observed arrangement itself may be drawn
    again, so that the p comes out as a small multiple.)
    """
    if pairs < 1:
        raise ValueError(f"pairs ({pairs}) must be at least 1")
    if _enumerates_flips(pairs):
        return 2.0 ** (1 - pairs)
    return 2.0 / (_drawn(pairs) + 1)


def minimum_permutation_p(variant: int, baseline: int) -> float:
    """The smallest two-sided p of relabelling two groups.

    `2 / C(n_x + n_y, n_x)`, at most 1, where all are enumerated, and `2 / (N + 1)` where N are
    drawn. With unequal sizes the mirror image is no relabelling; SciPy doubles the smaller tail, so
    the factor 2 stays.
    """
    if min(variant, baseline) < 1:
        raise ValueError(f"group sizes ({variant}, {baseline}) must be at least 1")
    if _enumerates_labels(variant, baseline):
        return min(1.0, 2.0 / math.comb(variant + baseline, variant))
    return 2.0 / (_drawn(variant + baseline) + 1)


def sign_flip_p(differences: ArrayLike, *, rng: np.random.Generator | None = None) -> float:
    """The two-sided p of `mean(d)` under all sign changes of the paired differences.

    Claim: exact if, without an effect, `d` and `-d` are equally likely within every pair. Memory is
    bounded and time linear in n.

    Args:
        differences: shape (n,), variant - baseline; any score will do, ranks too.
        rng: draws the arrangements beyond 14 pairs; left out, the same ones every time.

    Source: `scipy.stats.permutation_test(permutation_type="samples")`. Difference: arrangements are
    drawn by `scipy.stats.monte_carlo_test`, whose time does not grow with pairs times batches.
    """
    d = np.asarray(differences, dtype=np.float64)
    if _enumerates_flips(d.size):
        exact = stats.permutation_test(
            (d,), _mean, permutation_type="samples", vectorized=True, n_resamples=ARRANGEMENTS
        )
        return as_float(exact.pvalue)
    generator = _generator(rng)

    def flipped(size: tuple[int, ...]) -> FloatArray:
        return np.where(generator.integers(0, 2, size=size, dtype=bool), d, -d)

    drawn = stats.monte_carlo_test(
        d, flipped, _mean, vectorized=True, n_resamples=_drawn(d.size), batch=_batch(d.size)
    )
    return as_float(drawn.pvalue)


def permutation_p(
    variant: ArrayLike, baseline: ArrayLike, *, rng: np.random.Generator | None = None
) -> float:
    """The two-sided p of a difference of means under all relabellings of two independent groups.

    Memory is bounded and time linear in the number of values.

    Args:
        variant, baseline: shapes (n_x,) and (n_y,); any score will do, ranks too.
        rng: draws the arrangements if they are too many; left out, the same ones every time.

    Source: `scipy.stats.permutation_test(permutation_type="independent")`.
    """
    x, y = np.asarray(variant, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    values = x.size + y.size
    result = stats.permutation_test(
        (x, y),
        _difference_of_means,
        permutation_type="independent",
        vectorized=True,
        n_resamples=ARRANGEMENTS if _enumerates_labels(x.size, y.size) else _drawn(values),
        batch=_batch(values),
        rng=_generator(rng),
    )
    return as_float(result.pvalue)


def _enumerates_flips(pairs: int) -> bool:
    return pairs <= math.log2(ARRANGEMENTS)


def _enumerates_labels(variant: int, baseline: int) -> bool:
    values, smaller = variant + baseline, min(variant, baseline)
    # C(values, 3) first: it is never more, and the other has thousands of digits in a long table.
    few = math.comb(values, min(smaller, 3)) <= ARRANGEMENTS
    return few and math.comb(values, smaller) <= ARRANGEMENTS


def _drawn(values: int) -> int:
    return max(FEWEST_DRAWN, min(ARRANGEMENTS, VALUES_DRAWN // values))


def _batch(values: int) -> int:
    return max(1, VALUES_AT_ONCE // values)


def _generator(rng: np.random.Generator | None) -> np.random.Generator:
    return np.random.default_rng(0) if rng is None else rng


def _mean(x: FloatArray, axis: int) -> FloatArray:
    return np.asarray(x.mean(axis=axis))


def _difference_of_means(x: FloatArray, y: FloatArray, axis: int) -> FloatArray:
    return np.asarray(x.mean(axis=axis) - y.mean(axis=axis))
