"""The winner's curse in numbers."""

import numpy as np
import pytest

from harness.analysis.stats.selection import expected_best_of_noise


def test_the_best_of_nineteen_is_almost_two_standard_errors_too_good() -> None:
    assert expected_best_of_noise(19) == pytest.approx(1.84, abs=0.005)
    drawn = np.random.default_rng(81).standard_normal((20_000, 19)).max(axis=1).mean()
    assert expected_best_of_noise(19) == pytest.approx(drawn, abs=0.02)


@pytest.mark.parametrize(("variants", "expected"), [(1, 0.0), (2, 1 / np.sqrt(np.pi))])
def test_few_variants_agree_with_the_closed_form(variants: int, expected: float) -> None:
    assert expected_best_of_noise(variants) == pytest.approx(expected, abs=1e-9)


def test_the_best_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        expected_best_of_noise(0)
