"""The winner's curse: how good the best of several looks when none is better."""

import numpy as np
from scipy import stats

from harness.analysis.stats.quadrature import gauss_legendre


def expected_best_of_noise(variants: int) -> float:
    """How many standard errors too good the best of m equal variants looks: `E max(Z_1..Z_m)`.

    `integral of x m phi(x) Phi(x)^(m-1)`: 1.84 for 19 variants. What was chosen as the best of m
    has to be measured again on fresh seeds; the difference of the two is the shrinkage.

    Args:
        variants: m, measured with independent noise of one size.
    """
    if variants < 1:
        raise ValueError(f"variants ({variants}) must be at least 1")
    x, weights = gauss_legendre(-12.0, 12.0, nodes=240)
    density = variants * stats.norm.pdf(x) * stats.norm.cdf(x) ** (variants - 1)
    return float(np.sum(weights * x * density))
