"""TOST against its reference numbers, and the margin."""

import numpy as np
import pytest

from harness.analysis.stats.equivalence import margin_loss, slope_near_end, tost
from harness.analysis.stats.mean_tests import paired_t

X, Y = [4, 7, 8, 6, 3, 2], [6, 8, 7, 10, 11, 9]


def test_tost_agrees_with_the_reference_numbers() -> None:
    assert tost(X, Y, margin=1, design="pooled").p == pytest.approx(0.965097, abs=5e-7)
    assert tost(X, Y, margin=0.5, design="paired").p == pytest.approx(0.954854, abs=5e-7)


@pytest.mark.parametrize("design", ["paired", "welch", "pooled"])
def test_tost_is_symmetric_and_shrinks_with_the_margin(design) -> None:
    assert tost(X, Y, margin=2, design=design).p == pytest.approx(
        tost(Y, X, margin=2, design=design).p
    )
    p = [tost(X, Y, margin=margin, design=design).p for margin in (0.5, 1, 3, 9)]
    assert p == sorted(p, reverse=True)


def test_tost_rejects_exactly_when_the_ninety_percent_interval_lies_in_the_margin() -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        x, y = rng.normal(size=(2, 6))
        interval = paired_t(x, y).interval(level=0.9)
        assert interval is not None
        inside = interval.low > -1.0 and interval.high < 1.0
        assert (tost(x, y, margin=1.0).p < 0.05) == inside


def test_runs_without_noise_are_never_proved_equivalent() -> None:
    assert tost([3.3, 3.3, 3.3], [3.3, 3.3, 3.3], margin=1.0, design="welch").p == 1.0
    assert tost([3.3, 3.2, 3.1], [3.3, 3.2, 3.1], margin=1.0).p == 1.0


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan"), float("inf")])
def test_a_margin_must_be_positive(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        tost(X, Y, margin=margin)


def test_a_speedup_is_worth_its_steps_times_the_slope() -> None:
    assert margin_loss(speedup_percent=2.0, steps=1000, loss_slope_per_step=-1e-4) == pytest.approx(
        0.002
    )


@pytest.mark.parametrize(
    "bad",
    [
        {"speedup_percent": 0.0, "steps": 10, "loss_slope_per_step": -1.0},
        {"speedup_percent": 1.0, "steps": 0, "loss_slope_per_step": -1.0},
        {"speedup_percent": 1.0, "steps": 10, "loss_slope_per_step": 0.0},
    ],
)
def test_a_speedup_that_gives_no_margin_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|no margin"):
        margin_loss(**bad)


def test_the_slope_is_read_over_the_last_fifth() -> None:
    steps = np.arange(0, 101, 5)
    losses = np.where(steps < 80, 9.0, 3.0 - 0.01 * (steps - 80))
    assert slope_near_end(steps, losses, last_fraction=0.2) == pytest.approx(-0.01)


def test_a_slope_needs_two_evaluations_near_the_end() -> None:
    with pytest.raises(ValueError, match="evaluate more often"):
        slope_near_end([0, 50, 100], [3.0, 2.0, 1.0], last_fraction=0.2)
    with pytest.raises(ValueError, match="evaluate more often"):
        slope_near_end([], [], last_fraction=0.2)
    with pytest.raises(ValueError, match="one length"):
        slope_near_end([1, 2], [1.0], last_fraction=0.2)
