"""The speed-up where no law fits: between the baseline's lengths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.analysis.stats.between_lengths import loss_between, speedup_between

DATA = (50, 100, 200, 400)
MEANS = (6.6, 6.2, 5.4, 5.0)
"""First ever steeper, then ever flatter, as no law with a floor is."""


def losses(noise: float, *, worth: float, seed: int = 0, n: int = 5) -> tuple[np.ndarray, ...]:
    """Of the baseline at every length, and of a variant worth so many times the data of 100."""
    rng = np.random.default_rng(seed)
    luck = 0.1 * rng.normal(size=n)  # moves all runs of a seed alike
    base = np.array(MEANS)[:, None] + luck + noise * rng.normal(size=(len(DATA), n))
    own = np.interp(math.log(100 * worth), np.log(DATA), MEANS) + luck
    return base, own + noise * rng.normal(size=n)


def test_the_loss_lies_on_a_straight_line_over_the_logarithm() -> None:
    assert loss_between(DATA, MEANS, at=math.sqrt(100 * 200)) == pytest.approx(5.8)
    assert loss_between(DATA, MEANS, at=400) == 5.0


@pytest.mark.parametrize(
    ("data", "means", "message"),
    [
        (DATA, (6.6, 6.2, 6.3, 5.0), "does not fall"),
        (DATA, (6.6, 6.2, math.nan, 5.0), "does not fall"),
        ((50, 50, 200, 400), MEANS, "ascending"),
        ((50,), (6.6,), "two or more"),
        (DATA, MEANS, "outside"),
    ],
)
def test_nothing_is_read_where_nothing_can_be(
    data: tuple[int, ...], means: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        loss_between(data, means, at=401)


def test_a_variant_worth_half_as_much_data_again_is_found() -> None:
    found = speedup_between(DATA, *losses(0.01, worth=1.5), variant_data=100)
    assert found.speedup == pytest.approx(1.5, rel=0.03)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 1.5 < found.high < 1.6
    assert found.note is None


def test_the_interval_ends_where_the_t_test_begins_to_reject() -> None:
    base, own = losses(0.02, worth=1.5)
    found = speedup_between(DATA, base, own, variant_data=100, level=0.9)
    for end in (found.low, found.high):
        assert end is not None
        there = [np.interp(math.log(100 * end), np.log(DATA), seed) for seed in base.T]
        assert stats.ttest_rel(own, there).pvalue == pytest.approx(0.1)


def test_luck_that_moves_a_seed_alike_costs_nothing() -> None:
    base, own = losses(0.01, worth=1.5)
    shift = np.array([3.0, -2.0, 0.0, 1.0, 5.0])
    first = speedup_between(DATA, base, own, variant_data=100)
    moved = speedup_between(DATA, base + shift, own + shift, variant_data=100)
    assert (moved.low, moved.high) == pytest.approx((first.low, first.high))


@pytest.mark.parametrize(("worth", "n"), [(0.8, 3), (1.0, 5), (1.7, 4)])
def test_the_interval_covers_what_it_promises(worth: float, n: int) -> None:
    studies, hits = 300, 0
    for seed in range(studies):
        base, own = losses(0.03, worth=worth, seed=seed, n=n)
        found = speedup_between(DATA, base, own, variant_data=100, level=0.9)
        hits += (found.low or 0.0) <= worth <= (found.high or math.inf)
    low, high = stats.binom.interval(0.999, studies, 0.9)
    assert low <= hits <= high


def test_beyond_the_longest_baseline_only_a_bound_is_left() -> None:
    base, own = losses(0.01, worth=1.5)
    found = speedup_between(DATA, base, own - 2.0, variant_data=100)
    assert (found.speedup, found.high) == (None, None)
    assert found.low == pytest.approx(4.0)
    assert found.note == "open beyond the longest length of the baseline"
    worse = speedup_between(DATA, base, own + 2.0, variant_data=100)
    assert (worse.speedup, worse.low) == (None, None)
    assert worse.high == pytest.approx(0.5)


def test_noise_that_reaches_beyond_a_length_leaves_that_side_open() -> None:
    base, own = losses(0.1, worth=3.9, n=3)
    found = speedup_between(DATA, base, own, variant_data=100)
    assert found.low is not None
    assert found.high is None
    assert found.note == "open beyond the longest length of the baseline"


def test_without_noise_there_is_no_interval() -> None:
    base = np.repeat(np.array(MEANS)[:, None], 3, axis=1)
    found = speedup_between(DATA, base, [5.8, 5.8, 5.8], variant_data=100)
    assert found.speedup == pytest.approx(math.sqrt(2.0))
    assert (found.low, found.high) == (None, None)
    assert "no noise" in (found.note or "")


def test_shapes_and_seeds_are_checked() -> None:
    base, own = losses(0.01, worth=1.5)
    with pytest.raises(ValueError, match=r"give \(4, seeds\)"):
        speedup_between(DATA, base.T, own, variant_data=100)
    with pytest.raises(ValueError, match="at least 3"):
        speedup_between(DATA, base[:, :2], own[:2], variant_data=100)
