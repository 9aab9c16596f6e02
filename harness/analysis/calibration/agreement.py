"""Do verdict, interval and p agree? Whole studies through the analysis, as real ones go."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.analysis.calibration.cells import Cell, Noise
from harness.analysis.compare import analyse
from harness.analysis.result_rows import ResultRow
from harness.analysis.results import Analysis, Comparison, TargetResult
from harness.analysis.stats.power import Pairs
from harness.study.settings import AnalysisSettings

MARGIN = 0.8
"""In standard deviations of one run, as the true differences: every verdict occurs."""


def disagreements(
    rng: np.random.Generator,
    *,
    noise: Noise,
    comparisons: int,
    seeds: int,
    studies: int,
    design: Pairs,
    alpha: float,
) -> Cell:
    """How many studies say one thing in words and another in an interval or a p: none may."""
    settings = AnalysisSettings(
        baseline="baseline", alpha=alpha, pairing=design, margin_nats=MARGIN, target=-MARGIN
    )
    wrong = 0
    for _ in range(studies):
        effects = rng.uniform(-2.0, 2.0, comparisons + 1)
        effects[0] = 0.0
        values = noise(rng, (comparisons + 1, seeds)) + effects[:, None]
        analysis = analyse(list(_rows(values)), settings)
        wrong += contradicts_itself(analysis)
    return Cell(
        check="verdict, interval and p disagree",
        design=design,
        comparisons=comparisons,
        seeds=str(seeds),
        count=wrong,
        studies=studies,
        nominal=0.0,
        low=0.0,
        high=0.0,
        passed=wrong == 0,
    )


def _rows(values: np.ndarray) -> Iterator[ResultRow]:
    for index, own in enumerate(values):
        for seed, value in enumerate(own):
            name = "baseline" if index == 0 else f"variant-{index}"
            yield ResultRow(variant=name, seed=seed, value=float(value))


def contradicts_itself(analysis: Analysis) -> bool:
    """Whether any comparison or target of the analysis says two things."""
    alpha, margin = analysis.settings.alpha, analysis.margin
    return any(_differs(item, alpha, margin) for item in analysis.comparisons) or any(
        _target_differs(item, alpha) for item in analysis.targets
    )


def _differs(found: Comparison, alpha: float, margin: float | None) -> bool:
    """Held against the interval, and against each p: what each of them says by itself."""
    interval = found.interval
    if interval is None:
        decided = found.verdict not in ("inconclusive", "equivalent")
        return decided != (found.adjusted_p < alpha)
    off_zero = interval.high < 0.0 or interval.low > 0.0
    signed = found.verdict.startswith(("better", "worse"))
    pairs = [
        (signed, off_zero),
        (signed, found.adjusted_p < alpha),
        (found.verdict.startswith("better"), interval.high < 0.0),
    ]
    if margin is not None:
        inside = -margin < interval.low and interval.high < margin
        beyond = interval.high < -margin or interval.low > margin
        pairs += [
            (found.verdict == "equivalent", inside and not off_zero),
            (inside, found.equivalence_p is not None and found.equivalence_p < alpha),
            (found.verdict.endswith("by the margin"), beyond),
            (beyond, found.margin_p is not None and found.margin_p < alpha),
        ]
    return any(left != right for left, right in pairs)


def _target_differs(found: TargetResult, alpha: float) -> bool:
    below = found.upper_bound is not None and found.upper_bound < found.target
    return len({found.below, below, found.adjusted_p < alpha}) > 1
