"""Power over seeds: what each number of seeds can show, before anything is trained.

All differences are in standard deviations of one run (sigmas), so that a plan can be made before
any noise is known; where it is known, they are given in nats too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from harness.analysis.stats.arrays import MINIMUM_SEEDS, as_float
from harness.analysis.stats.power import Pairs, detectable_difference, power_of_t, power_of_tost

SHOWN_SEEDS = 20
"""A curve goes at least this far: few studies train a variant more often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How every comparison of a study is judged: by one interval at 1 - alpha / comparisons.

    Args:
        sigma: standard deviation of one run's final loss over seeds, in nats; None: not known.
        known_noise: sigma is stated in the study file, so differences are judged by z, not by t.
        margin: smallest difference that matters, in nats; None: not stated, or not yet known.
    """

    comparisons: int
    alpha: float
    power: float
    design: Pairs
    sigma: float | None = None
    known_noise: bool = False
    margin: float | None = None

    @property
    def share(self) -> float:
        """Two-sided error of one comparison."""
        return self.alpha / self.comparisons

    @property
    def margin_in_sigmas(self) -> float | None:
        return None if self.margin is None or self.sigma is None else self.margin / self.sigma

    @property
    def unit(self) -> float:
        """The sd that the power functions ask for, in sigmas; pairing is promised no gain."""
        return math.sqrt(2.0) if self.design == "paired" else 1.0

    def finds(self, difference: float, *, seeds: int) -> float:
        """The probability that a true difference, in sigmas, is called better (or worse)."""
        if self.known_noise:
            z, distance = self._z(), difference / _standard_error(seeds)
            return as_float(stats.norm.sf(z - distance) + stats.norm.sf(z + distance))
        return power_of_t(
            difference, sd=self.unit, seeds=seeds, alpha=self.share, design=self.design
        )

    def shows_equivalence(self, margin: float, *, seeds: int) -> float:
        """The probability that equality is called equivalence within a margin, in sigmas."""
        if self.known_noise:
            room = margin / _standard_error(seeds) - self._z()
            return max(0.0, 2.0 * as_float(stats.norm.cdf(room)) - 1.0)
        return power_of_tost(
            margin, sd=self.unit, seeds=seeds, alpha=self.share / 2.0, design=self.design
        )

    def detectable(self, seeds: int) -> float:
        """The smallest true difference, in sigmas, that is found with probability `power`."""
        if self.known_noise:  # the other tail is beyond 4 standard errors
            beyond = as_float(stats.norm.ppf(self.power))
            return (self._z() + beyond) * _standard_error(seeds)
        return detectable_difference(
            sd=self.unit, seeds=seeds, alpha=self.share, power=self.power, design=self.design
        )

    def _z(self) -> float:
        return as_float(stats.norm.isf(self.share / 2.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerPoint:
    """What one number of seeds a side can show.

    Args:
        detectable_in_sigmas, detectable_nats: the difference that is found with the wanted power.
        finds_one_sigma, finds_two_sigmas: probability to find a difference of so much.
        finds_margin: probability to find a difference as large as the margin.
        shows_equivalence: probability to show equivalence within the margin where nothing differs.
    """

    seeds: int
    detectable_in_sigmas: float
    detectable_nats: float | None
    finds_one_sigma: float
    finds_two_sigmas: float
    finds_margin: float | None
    shows_equivalence: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerCurve:
    """Power for every number of seeds from the least to a little beyond the plan."""

    rule: Rule
    planned: int
    points: tuple[PowerPoint, ...]

    @property
    def planned_point(self) -> PowerPoint:
        return next(point for point in self.points if point.seeds == self.planned)

    def seeds_that_find_the_margin(self) -> int | None:
        """The fewest seeds of the curve with the wanted power; None: more, or no margin."""
        return self._first([point.finds_margin for point in self.points])

    def seeds_that_show_equivalence(self) -> int | None:
        return self._first([point.shows_equivalence for point in self.points])

    def _first(self, found: list[float | None]) -> int | None:
        for point, power in zip(self.points, found, strict=True):
            if power is not None and power >= self.rule.power:
                return point.seeds
        return None


def power_curve(rule: Rule, *, planned: int) -> PowerCurve:
    """The curve from 3 seeds to the planned number, and at least to 20."""
    last = max(planned, SHOWN_SEEDS)
    return PowerCurve(
        rule=rule,
        planned=planned,
        points=tuple(_point(rule, seeds) for seeds in range(MINIMUM_SEEDS, last + 1)),
    )


def _point(rule: Rule, seeds: int) -> PowerPoint:
    detectable, margin = rule.detectable(seeds), rule.margin_in_sigmas
    return PowerPoint(
        seeds=seeds,
        detectable_in_sigmas=detectable,
        detectable_nats=None if rule.sigma is None else detectable * rule.sigma,
        finds_one_sigma=rule.finds(1.0, seeds=seeds),
        finds_two_sigmas=rule.finds(2.0, seeds=seeds),
        finds_margin=None if margin is None else rule.finds(margin, seeds=seeds),
        shows_equivalence=None if margin is None else rule.shows_equivalence(margin, seeds=seeds),
    )


def _standard_error(seeds: int) -> float:
    """Of a difference of two means, in sigmas."""
    return math.sqrt(2.0 / seeds)
