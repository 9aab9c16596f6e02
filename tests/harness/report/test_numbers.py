"""Numbers carry as many digits as their noise leaves them, and a real minus sign."""

from __future__ import annotations

import pytest

from harness.analysis.stats.intervals import Interval
from harness.report import numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a -0.31 [-0.35, -0.27]", "a −0.31 [−0.35, −0.27]"),
        ("adamw-5 is better: -1", "adamw-5 is better: −1"),
        ("lr 1e-05, 2025-07-04, adamw_-3", "lr 1e-05, 2025-07-04, adamw_-3"),
        ("x -> y, a-b", "x -> y, a-b"),
    ],
)
def test_only_a_sign_becomes_a_minus(text: str, expected: str) -> None:
    assert numbers.real_minus(text) == expected


@pytest.mark.parametrize(
    ("half_width", "expected"),
    [(0.0044, "[−0.0544, −0.0456]"), (0.18, "[−0.23, +0.13]"), (2.5, "[−2.55, +2.45]")],
)
def test_an_interval_shows_two_digits_of_its_width(half_width: float, expected: str) -> None:
    found = Interval(low=-0.05 - half_width, high=-0.05 + half_width, level=0.95)
    assert numbers.interval(found) == expected


@pytest.mark.parametrize(
    ("noise", "places"), [(None, 4), (0.0, 4), (0.02, 3), (3.0, 1), (48.0, 0), (1e-9, 6)]
)
def test_decimals_follow_the_noise(noise: float | None, places: int) -> None:
    assert numbers.decimals(noise, fallback=4) == places


@pytest.mark.parametrize(
    ("p", "two", "three"),
    [
        (0.0, "< 0.0001", "< 0.0001"),
        (0.01234, "0.012", "0.0123"),
        (0.0625, "0.062", "0.0625"),
        (0.456, "0.46", "0.456"),
        (1.0, "1.00", "1"),
    ],
)
def test_an_exact_p_keeps_one_digit_more(p: float, two: str, three: str) -> None:
    assert numbers.probability(p) == two
    assert numbers.exact_probability(p) == three


def test_a_speed_has_three_digits() -> None:
    assert numbers.rate(28734.2) == numbers.count(28700)
    assert numbers.rate(7.123) == "7"
    assert numbers.rate(None) == numbers.MISSING
