"""The vectorised calibration is the one-study code, and the one-study code keeps its promises."""

import numpy as np
import pytest

from harness.analysis.stats.calibration import (
    coverages,
    divergence_error,
    equivalence_error,
    family_wise_errors,
    gaussian_noise,
    looking_error,
    p_values,
    power_curve,
    residual_noise,
)
from harness.analysis.stats.equivalence import tost
from harness.analysis.stats.mean_tests import paired_t, welch_t

ALPHA = 0.05


@pytest.mark.parametrize(("design", "test"), [("paired", paired_t), ("unpaired", welch_t)])
def test_the_vectorised_p_is_that_of_one_study(design, test) -> None:
    rng = np.random.default_rng(71)
    x, y = rng.normal(size=(30, 4)), rng.normal(size=(30, 4))
    x[0], y[0] = 1.0, 2.0  # nothing varies
    x[1] = y[1] + 0.5  # the difference does not vary
    x[2] = y[2]
    expected = [test(a, b).p for a, b in zip(x, y, strict=True)]
    assert p_values(x, y, design=design) == pytest.approx(expected)


@pytest.mark.parametrize("design", ["paired", "unpaired"])
@pytest.mark.parametrize("seeds", [3, 8])
def test_false_positives_and_family_wise_errors_stay_inside_their_bounds(design, seeds) -> None:
    cells = family_wise_errors(
        np.random.default_rng(72),
        noise=gaussian_noise,
        comparisons=(1, 4, 18),
        seeds=seeds,
        studies=4000,
        design=design,
        alpha=ALPHA,
    )
    for cell in cells:
        assert cell.passed, cell


def test_a_test_that_cheats_is_caught() -> None:
    """An alpha that is secretly doubled leaves the bounds."""
    (cell,) = family_wise_errors(
        np.random.default_rng(73),
        noise=gaussian_noise,
        comparisons=(1,),
        seeds=5,
        studies=4000,
        design="paired",
        alpha=2 * ALPHA,
    )
    assert cell.rate > 0.07
    heavy = family_wise_errors(
        np.random.default_rng(73),
        noise=lambda rng, shape: np.repeat(rng.standard_normal((*shape[:2], 3)), 3, axis=2),
        comparisons=(1,),
        seeds=9,
        studies=4000,
        design="paired",
        alpha=ALPHA,
    )
    assert next(heavy).passed is False  # each seed counted three times
    looking = looking_error(
        np.random.default_rng(74),
        noise=gaussian_noise,
        last=10,
        studies=4000,
        design="paired",
        alpha=ALPHA,
    )
    assert looking.passed is None
    assert looking.rate > looking.high


def test_intervals_cover_and_tost_seldom_errs() -> None:
    rng = np.random.default_rng(75)
    cells = list(
        coverages(rng, noise=gaussian_noise, comparisons=4, seeds=5, studies=10_000, alpha=ALPHA)
    )
    cells.append(equivalence_error(rng, noise=gaussian_noise, seeds=5, studies=10_000, alpha=ALPHA))
    for cell in cells:
        assert cell.passed, cell
    assert abs(cells[0].rate - 0.95) < 0.01


def test_the_vectorised_equivalence_is_tost() -> None:
    rng = np.random.default_rng(76)
    studies = [rng.normal(size=(2, 5)) for _ in range(300)]
    one_by_one = sum(tost(x + 3.0, y, margin=3.0).p < ALPHA for y, x in studies)
    replay = iter(np.array(studies)[None])
    cell = equivalence_error(
        rng, noise=lambda _rng, _shape: next(replay), seeds=5, studies=300, alpha=ALPHA
    )
    assert cell.count == one_by_one


def test_studies_with_divergence_keep_their_error() -> None:
    for design in ("paired", "unpaired"):
        cell = divergence_error(
            np.random.default_rng(77),
            noise=gaussian_noise,
            seeds=5,
            studies=200,
            design=design,
            alpha=ALPHA,
        )
        assert cell.passed, cell


def test_power_follows_the_noncentral_t() -> None:
    points = power_curve(
        np.random.default_rng(78),
        noise=gaussian_noise,
        seeds=(3, 8),
        effects=(0.0, 1.0, 2.0),
        studies=10_000,
        alpha=ALPHA,
    )
    for point in points:
        assert point.found == pytest.approx(point.predicted, abs=0.02)


def test_own_noise_has_mean_zero_and_deviation_one() -> None:
    rng = np.random.default_rng(79)
    noise = residual_noise([rng.normal(3.0, 0.02, 8), rng.normal(9.0, 0.02, 8), [1.0]])
    drawn = noise(rng, (1000, 50))
    assert drawn.mean() == pytest.approx(0.0, abs=0.02)
    assert drawn.std() == pytest.approx(1.0, abs=0.02)
    assert len(np.unique(drawn)) <= 16


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([], "0 residuals"),
        ([[1.0, 2.0, 3.0]], "3 residuals"),
        ([[1.0, 2.0]] * 20, "0 residuals"),
        ([[1.0] * 12], "no noise"),
    ],
)
def test_results_that_hold_no_noise_are_refused(groups, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        residual_noise(groups)
