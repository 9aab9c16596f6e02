"""Numbers with the digits that their noise supports, and plans in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.stats.intervals import Interval
from harness.analysis.stats.power import capability
from harness.analysis.wording import bracket, capability_sentences, decimals_for, p_value, written


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (0.5, "p = 0.50"),
        (0.0123, "p = 0.012"),
        (0.00041, "p = 0.00041"),
        (1e-9, "p < 0.0001"),
        (1.0, "p = 1.00"),
    ],
)
def test_a_p_is_shown_with_two_digits(p: float, shown: str) -> None:
    assert p_value(p) == shown


@pytest.mark.parametrize(
    ("noise", "places"), [(0.3, 2), (0.031, 3), (0.00042, 5), (20.0, 2), (None, 4), (0.0, 4)]
)
def test_an_estimate_shows_two_digits_of_its_noise(noise: float | None, places: int) -> None:
    assert decimals_for(noise) == places


def test_an_interval_is_shown_with_its_signs() -> None:
    assert bracket(Interval(low=-0.351, high=0.271, level=0.95)) == "[-0.35, +0.27]"
    assert bracket(None) == ""
    assert bracket(Interval(low=-3e-9, high=1e-9, level=0.95)) == "[-3.0e-09, +1.0e-09]"
    assert len(bracket(Interval(low=-2e80, high=1e80, level=0.95))) < 30


def test_a_plan_is_told_in_words() -> None:
    few, exact = capability_sentences(capability(5, comparisons=4, sigma=0.01))
    assert "5 paired seeds for each of 4 comparisons" in few
    assert "0.035 nats at 0.01 a run" in few
    assert "it cannot go below 0.0125" in exact
    assert "it can go below 0.05" in capability_sentences(capability(8))[1]


@pytest.mark.parametrize(
    ("value", "noise", "text"),
    [
        (3.41234, 0.012, "3.412"),
        (0.012, 0.012, "0.012"),
        (123456789.123456, 0.01, "123456789.123"),
        (123456789.1, 3e6, "123456789"),
        (1.234e60, 1e58, "1.234e+60"),
        (1.23456e-9, 2e-11, "1.235e-09"),
        (1.0000000012, 1e-9, "1.0000000012"),
        (0.00002, 0.0003, "0.00002"),
        (3.4, None, "3.4000"),
        (0.0, 1e-30, "0.00"),
        (None, 0.1, "-"),
    ],
)
def test_a_number_has_the_digits_that_its_noise_supports(value, noise, text: str) -> None:
    assert written(value, noise=noise) == text


@given(
    st.floats(-1e100, 1e100).filter(lambda x: x == 0.0 or abs(x) > 1e-100),
    st.one_of(st.none(), st.floats(1e-110, 1e100)),
)
def test_a_written_number_is_short_and_right_within_its_noise(value: float, noise) -> None:
    text = written(value, noise=noise)
    assert len(text) <= 24
    allowed = abs(value) / 1e3 if noise is None else noise
    assert abs(float(text) - value) <= 0.1 * max(allowed, 1e-12 * abs(value)) * (1.0 + 1e-9)
