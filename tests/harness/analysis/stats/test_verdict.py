"""Four verdicts that exclude each other."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.stats.verdict import verdict


@pytest.mark.parametrize(
    ("direction", "p", "equivalence_p", "expected"),
    [
        (-0.3, 0.01, None, "better"),
        (0.3, 0.01, None, "worse"),
        (-0.3, 0.05, None, "inconclusive"),
        (-0.3, 0.2, 0.01, "equivalent"),
        (-0.3, 0.2, 0.05, "inconclusive"),
        (-0.3, 0.01, 0.01, "better"),
        (0.0, 0.01, None, "inconclusive"),
    ],
)
def test_the_verdict_follows_from_the_p_values(direction, p, equivalence_p, expected) -> None:
    assert (
        verdict(direction=direction, adjusted_p=p, alpha=0.05, equivalence_p=equivalence_p)
        == expected
    )


@settings(max_examples=100, deadline=None)
@given(st.floats(-1, 1), st.floats(0, 1), st.none() | st.floats(0, 1))
def test_swapping_the_sides_swaps_better_and_worse(direction, p, equivalence_p) -> None:
    swap = {"better": "worse", "worse": "better"}
    one = verdict(direction=direction, adjusted_p=p, alpha=0.05, equivalence_p=equivalence_p)
    other = verdict(direction=-direction, adjusted_p=p, alpha=0.05, equivalence_p=equivalence_p)
    assert other == swap.get(one, one)


def test_alpha_is_a_probability() -> None:
    with pytest.raises(ValueError, match="alpha"):
        verdict(direction=1.0, adjusted_p=0.5, alpha=5.0)
