"""Points of a search space that need no results of earlier ones: random, quasi-random, grid."""

from __future__ import annotations

import math

import numpy as np

from harness.tuning_settings import Point, Space, grid_points


def draw_points(space: Space, *, searcher: str, count: int, seed: int) -> list[Point]:
    """The first `count` points of a `random`, `quasi_random` or `grid` search.

    quasi_random is a scrambled Sobol sequence (Owen 1998), which fills the space more evenly than
    independent draws; both are mapped through each dimension's own scale.
    """
    if searcher == "grid":
        return grid_points(space)[:count]
    random = np.random.default_rng(seed)
    if searcher == "quasi_random":
        from scipy.stats import qmc

        sobol = qmc.Sobol(len(space), scramble=True, rng=random)
        # Sobol sequences come in powers of two; the first ones of a longer one are still good.
        shares = sobol.random_base2(math.ceil(math.log2(count)))[:count]
    else:
        shares = random.random((count, len(space)))
    return [
        {name: dim.at(float(share)) for (name, dim), share in zip(space.items(), row, strict=True)}
        for row in shares
    ]
