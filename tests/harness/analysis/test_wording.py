"""Numbers with the digits that their noise supports, and plans in words."""

import pytest

from harness.analysis.stats.intervals import Interval
from harness.analysis.stats.power import capability
from harness.analysis.wording import bracket, capability_sentences, decimals_for, p_value


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


def test_a_plan_is_told_in_words() -> None:
    few, exact = capability_sentences(capability(5, comparisons=4, sigma=0.01))
    assert "5 paired seeds for each of 4 comparisons" in few
    assert "0.035 nats at 0.01 a run" in few
    assert "it cannot go below 0.0125" in exact
    assert "it can go below 0.05" in capability_sentences(capability(8))[1]
