"""`optbench calibrate`: does the harness keep its promises on noise whose truth is known?

Gaussian noise, or noise drawn from somebody's own results.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from harness.analysis.calibration.adding_seeds import (
    added_seeds_error,
    looking_error,
    sequential_errors,
    target_error,
)
from harness.analysis.calibration.agreement import disagreements
from harness.analysis.calibration.cells import Cell, Noise, gaussian_noise, residual_noise
from harness.analysis.calibration.divergence import divergence_error, divergence_found
from harness.analysis.calibration.fixed_seeds import (
    PowerPoint,
    coverages,
    equivalence_errors,
    family_wise_errors,
    power_curve,
)
from harness.analysis.calibration.winners_curse import WinnersCurse, winners_curse_demo
from harness.analysis.interim import look_bounds
from harness.analysis.result_rows import ResultRow, by_variant
from harness.analysis.results import plain
from harness.analysis.stats.power import Pairs
from harness.analysis.stats.sequential import normal_bounds
from harness.analysis.targets import target_shares
from harness.errors import UserError
from harness.study.settings import AnalysisSettings

__all__ = ["Calibration", "WinnersCurse", "calibrate", "winners_curse_demo"]

SCHEMA_VERSION = 2
STUDIES = 100_000
"""Studies a cell: the binomial bounds around 0.05 are then 0.047 and 0.053."""

SEEDS = (3, 5, 8, 10)
COMPARISONS = (1, 4, 18)
LOOKS = (4, 7, 10)
EFFECTS = tuple(float(effect) for effect in np.linspace(0.0, 3.0, 13))
SEQUENTIAL_SHARE = 10
"""The bounds are calibrated to within 0.0003 of alpha: ten times the studies show that."""

DIVERGENCE_SEEDS = 8
DIVERGENCE_SHARE = 0.02
"""Studies with divergence go one by one through the exact tests: 2 % of the others' number."""

QUIET = 0.1
ALL_DIVERGE_SEEDS = 5
TOGETHER = 0.5

AGREEMENT_SHARE = 0.001
AGREEMENT = (6, 5)
"""Whole studies of 6 variants and 5 seeds, each through the whole analysis."""

ADVISED = (5, 100)
"""Seeds before the advice, and those above which nobody follows it."""

TARGETS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Every promise checked, and the power curve next to its theory."""

    noise: str
    alpha: float
    studies: int
    cells: tuple[Cell, ...]
    power: tuple[PowerPoint, ...]

    @property
    def passed(self) -> bool:
        """Whether every promise stayed inside its binomial bounds."""
        return all(cell.passed is not False for cell in self.cells)

    def to_json(self) -> dict[str, Any]:
        """Plain values; each cell with its rate, its bounds and whether it passed."""
        return {
            "schema_version": SCHEMA_VERSION,
            "noise": self.noise,
            "alpha": self.alpha,
            "studies": self.studies,
            "passed": self.passed,
            "cells": [plain({**asdict(cell), "rate": cell.rate}) for cell in self.cells],
            "power": [plain(asdict(point)) for point in self.power],
        }


def calibrate(
    rng: np.random.Generator,
    *,
    rows: Sequence[ResultRow] | None = None,
    studies: int = STUDIES,
    alpha: float = 0.05,
) -> Calibration:
    """Draws studies without an effect (and some with one) and judges them as real ones are.

    Args:
        rng: draws everything.
        rows: somebody's results, whose noise is to be used; None for Gaussian noise.
        studies: per cell; 100,000 take about a minute and a half on one core.

    Raises:
        UserError: the results have too few completed seeds, or no noise; fewer than
            100 studies; an alpha outside (0, 0.5).
    """
    if studies < 100:
        raise UserError(f"studies ({studies}) must be at least 100: a rate needs many of them")
    if not 0.0 < alpha < 0.5:
        raise UserError(f"alpha ({alpha}) must lie between 0 and 0.5, as in a study: 0.05 is usual")
    noise = gaussian_noise if rows is None else _own_noise(rows)
    return Calibration(
        noise="Gaussian" if rows is None else "drawn from the residuals of the given results",
        alpha=alpha,
        studies=studies,
        cells=tuple(_cells(rng, noise=noise, studies=studies, alpha=alpha)),
        power=tuple(
            power_curve(
                rng, noise=noise, seeds=SEEDS, effects=EFFECTS, studies=studies, alpha=alpha
            )
        ),
    )


def _own_noise(rows: Sequence[ResultRow]) -> Noise:
    groups = [
        [row.value for row in own if row.value is not None] for own in by_variant(rows).values()
    ]
    try:
        return residual_noise(groups)
    except ValueError as error:
        raise UserError(f"these results cannot serve as noise: {error}") from None


def _cells(rng: np.random.Generator, *, noise: Noise, studies: int, alpha: float) -> Iterator[Cell]:
    yield from _fixed(rng, noise=noise, studies=studies, alpha=alpha)
    yield from _one_by_one(rng, noise=noise, studies=studies, alpha=alpha)
    yield from _adding(rng, noise=noise, studies=studies, alpha=alpha)


DESIGNS: tuple[Pairs, ...] = ("paired", "unpaired")


def _fixed(rng: np.random.Generator, *, noise: Noise, studies: int, alpha: float) -> Iterator[Cell]:
    """A fixed number of seeds, vectorised over the studies."""
    for design in DESIGNS:
        for seeds in SEEDS:
            yield from family_wise_errors(
                rng,
                noise=noise,
                comparisons=COMPARISONS,
                seeds=seeds,
                studies=studies,
                design=design,
                alpha=alpha,
            )
    for seeds in SEEDS:
        # Where Welch's own degrees of freedom would err most: few seeds and a quiet baseline.
        yield from family_wise_errors(
            rng,
            noise=noise,
            comparisons=COMPARISONS[-1:],
            seeds=seeds,
            studies=studies,
            design="unpaired",
            alpha=alpha,
            quiet=QUIET,
        )
    for seeds in SEEDS:
        yield from coverages(
            rng, noise=noise, comparisons=4, seeds=seeds, studies=studies, alpha=alpha
        )
        yield from equivalence_errors(
            rng, noise=noise, comparisons=COMPARISONS, seeds=seeds, studies=studies, alpha=alpha
        )


def _one_by_one(
    rng: np.random.Generator, *, noise: Noise, studies: int, alpha: float
) -> Iterator[Cell]:
    """Fewer studies, each through the code that judges a real one."""
    few = math.ceil(DIVERGENCE_SHARE * studies)
    for together in (0.0, TOGETHER):
        yield divergence_error(
            rng,
            noise=noise,
            seeds=DIVERGENCE_SEEDS,
            studies=few,
            design="paired",
            alpha=alpha,
            together=together,
        )
    yield divergence_found(
        rng,
        noise=noise,
        seeds=ALL_DIVERGE_SEEDS,
        studies=math.ceil(AGREEMENT_SHARE * studies),
        alpha=alpha,
    )
    comparisons, seeds = AGREEMENT
    for design in DESIGNS:
        yield disagreements(
            rng,
            noise=noise,
            comparisons=comparisons,
            seeds=seeds,
            studies=math.ceil(AGREEMENT_SHARE * studies),
            design=design,
            alpha=alpha,
        )


def _adding(
    rng: np.random.Generator, *, noise: Noise, studies: int, alpha: float
) -> Iterator[Cell]:
    """Studies that add seeds."""
    normal = 2.0 * stats.norm.sf(normal_bounds([look / LOOKS[-1] for look in LOOKS], alpha=alpha))
    many = SEQUENTIAL_SHARE * studies
    for design in DESIGNS:
        yield looking_error(
            rng, noise=noise, last=LOOKS[-1], studies=studies, design=design, alpha=alpha
        )
        yield from sequential_errors(
            rng,
            noise=noise,
            design=design,
            bounds=look_bounds(LOOKS, alpha=alpha, comparisons=1),
            normal_nominal_p=list(normal),
            studies=many,
        )
    settings = AnalysisSettings(baseline="baseline", alpha=alpha, looks=LOOKS, target=0.0)
    for variants in (1, TARGETS):
        yield target_error(
            rng,
            noise=noise,
            looks=LOOKS,
            shares=target_shares(settings, variants=variants),
            variants=variants,
            studies=studies,
            alpha=alpha,
        )
    first, most = ADVISED
    for fresh in (False, True):
        yield added_seeds_error(
            rng, noise=noise, first=first, most=most, studies=studies, alpha=alpha, fresh=fresh
        )
