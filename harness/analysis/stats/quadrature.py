"""Gauss-Legendre quadrature."""

from functools import lru_cache

import numpy as np

from harness.analysis.stats.arrays import FloatArray


@lru_cache(maxsize=8)
def _unit(nodes: int) -> tuple[FloatArray, FloatArray]:
    """Kept, because finding the nodes takes longer than using them."""
    x, weights = np.polynomial.legendre.leggauss(nodes)
    return np.asarray(x), np.asarray(weights)


def gauss_legendre(low: float, high: float, *, nodes: int) -> tuple[FloatArray, FloatArray]:
    """Points in (low, high) and their weights, both of shape (nodes,)."""
    x, weights = _unit(nodes)
    half = (high - low) / 2.0
    return low + half * (x + 1.0), half * weights
