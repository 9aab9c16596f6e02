"""Studies in which runs diverge, one by one through the comparison of runs."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.analysis.calibration.cells import Cell, Noise, cell
from harness.analysis.stats.arrays import FloatArray
from harness.analysis.stats.comparison import compare_runs
from harness.analysis.stats.power import Pairs


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
    together: float = 0.0,
) -> Cell:
    """A/A studies in which every run diverges with probability `rate`, through `compare_runs`.

    The whole rule is judged: t where all runs completed, else ranks and risks of divergence.

    Args:
        together: share of the seeds at which both runs have one fate.
    """
    false = 0
    for _ in range(studies):
        values = noise(rng, (2, seeds))
        steps = rng.integers(1, 1000, size=(2, seeds))
        diverged = rng.uniform(size=(2, seeds)) < rate
        same = rng.uniform(size=seeds) < together
        diverged[1, same] = diverged[0, same]
        variant, baseline = (_ends(values[side], diverged[side], steps[side]) for side in (0, 1))
        false += compare_runs(variant, baseline, paired=design == "paired").p < alpha
    with_fate = f", {100 * together:.3g} % together" if together else ""
    return cell(
        f"false positives, {100 * rate:.3g} % of runs diverge{with_fate}", design, 1, str(seeds),
        false, studies, alpha, at_most=True,
    )  # fmt: skip


def divergence_found(
    rng: np.random.Generator, *, noise: Noise, seeds: int, studies: int, alpha: float
) -> Cell:
    """Pairs in which the variant always diverges and the baseline never: always called?"""
    called = 0
    for _ in range(studies):
        steps = rng.integers(1, 1000, size=seeds)
        variant = _ends(np.zeros(seeds), np.ones(seeds, dtype=bool), steps)
        baseline = _ends(noise(rng, (seeds,)), np.zeros(seeds, dtype=bool), steps)
        result = compare_runs(variant, baseline, paired=True)
        called += result.p < alpha and result.direction > 0
    return Cell(
        check="every run diverges, the baseline's never: called worse",
        design="paired",
        comparisons=1,
        seeds=str(seeds),
        count=called,
        studies=studies,
        nominal=1.0,
        low=1.0,
        high=1.0,
        passed=called == studies,
    )


def _ends(
    values: FloatArray, diverged: NDArray[np.bool_], steps: NDArray[np.int64]
) -> list[_RunEnd]:
    return [
        _RunEnd(value=None, diverged=True, diverged_at_step=int(step))
        if lost
        else _RunEnd(value=float(value))
        for value, lost, step in zip(values, diverged, steps, strict=True)
    ]
