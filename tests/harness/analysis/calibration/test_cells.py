"""The vectorised calibration is the one-study code, and the one-study code keeps its promises."""

from dataclasses import replace

import numpy as np
import pytest

from harness.analysis.calibration.adding_seeds import (
    added_seeds_error,
    looking_error,
    target_error,
)
from harness.analysis.calibration.agreement import contradicts_itself, disagreements
from harness.analysis.calibration.cells import gaussian_noise, residual_noise
from harness.analysis.calibration.divergence import divergence_error, divergence_found
from harness.analysis.calibration.fixed_seeds import (
    MARGIN,
    coverages,
    equivalence_errors,
    family_wise_errors,
    p_values,
    power_curve,
)
from harness.analysis.compare import analyse
from harness.analysis.result_rows import ResultRow
from harness.analysis.stats.mean_tests import paired_t, welch_t
from harness.analysis.stats.verdict import decide
from harness.analysis.targets import target_shares
from harness.study.settings import AnalysisSettings

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


def test_intervals_cover() -> None:
    rng = np.random.default_rng(75)
    cells = list(
        coverages(rng, noise=gaussian_noise, comparisons=4, seeds=5, studies=10_000, alpha=ALPHA)
    )
    for cell in cells:
        assert cell.passed, cell
    assert abs(cells[0].rate - 0.95) < 0.01


def equivalence(**changes: object) -> list:
    arguments = {
        "noise": gaussian_noise,
        "comparisons": (1, 6, 18),
        "seeds": 8,
        "studies": 4000,
        "alpha": ALPHA,
    }
    return list(equivalence_errors(np.random.default_rng(80), **{**arguments, **changes}))


def test_false_equivalence_keeps_its_promise_for_any_number_of_variants() -> None:
    for cell in equivalence():
        assert cell.passed, cell


def test_two_one_sided_tests_for_each_variant_alone_leave_the_bounds() -> None:
    """The rule of version 0.1.0: with 6 and with 18 variants it called too much equivalent."""
    one, six, eighteen = equivalence(shared=False)
    assert one.passed
    assert (six.passed, eighteen.passed) == (False, False)
    assert six.rate == pytest.approx(0.18, abs=0.03)
    assert eighteen.rate == pytest.approx(0.35, abs=0.03)


def test_the_vectorised_equivalence_is_that_of_one_study() -> None:
    rng = np.random.default_rng(76)
    studies = rng.normal(size=(300, 3, 5))
    one_by_one = sum(
        any(
            decide(
                paired_t(own + MARGIN, runs[0]), share=ALPHA / 2, alpha=ALPHA, margin=MARGIN
            ).equivalence_p
            < ALPHA
            for own in runs[1:]
        )
        for runs in studies
    )
    replay = iter(studies[None])
    (cell,) = equivalence(
        noise=lambda _rng, _shape: next(replay), comparisons=(2,), seeds=5, studies=300
    )
    assert cell.count == one_by_one


def test_a_target_under_looks_keeps_its_promise_and_without_bounds_it_does_not() -> None:
    looks, settings = (4, 7, 10), AnalysisSettings(baseline="a", looks=(4, 7, 10), target=0.0)

    def cell(shares: tuple[float, ...], variants: int):
        return target_error(
            np.random.default_rng(81),
            noise=gaussian_noise,
            looks=looks,
            shares=shares,
            variants=variants,
            studies=8000,
            alpha=ALPHA,
        )

    for variants in (1, 4):
        assert cell(target_shares(settings, variants=variants), variants).passed
    ignored = cell((ALPHA, ALPHA, ALPHA), 1)
    assert ignored.passed is False
    assert ignored.rate == pytest.approx(0.103, abs=0.02)


def test_seeds_added_because_they_were_advised_cost_errors_and_a_fresh_study_does_not() -> None:
    def cell(*, fresh: bool):
        return added_seeds_error(
            np.random.default_rng(82),
            noise=gaussian_noise,
            first=5,
            most=100,
            studies=8000,
            alpha=ALPHA,
            fresh=fresh,
        )

    added = cell(fresh=False)
    assert added.passed is None
    assert added.rate > added.high
    assert cell(fresh=True).passed


def test_every_divergence_against_none_is_called_in_five_pairs() -> None:
    cell = divergence_found(
        np.random.default_rng(83), noise=gaussian_noise, seeds=5, studies=5, alpha=ALPHA
    )
    assert cell.passed


@pytest.mark.parametrize("design", ["paired", "unpaired"])
def test_words_intervals_and_p_never_disagree(design) -> None:
    cell = disagreements(
        np.random.default_rng(84),
        noise=gaussian_noise,
        comparisons=4,
        seeds=5,
        studies=12,
        design=design,
        alpha=ALPHA,
    )
    assert cell.passed


def test_an_analysis_that_contradicts_itself_is_noticed() -> None:
    """As version 0.1.0 did: a verdict by another correction than that of the interval."""
    rng = np.random.default_rng(85)
    rows = [
        ResultRow(variant=name, seed=seed, value=float(loss + rng.normal(0, 0.01)))
        for name, loss in (("a", 3.0), ("b", 3.0), ("c", 2.5))
        for seed in range(5)
    ]
    analysis = analyse(rows, AnalysisSettings(baseline="a", pairing="paired"))
    assert not contradicts_itself(analysis)
    b, c = analysis.comparisons
    for wrong in (replace(b, verdict="better"), replace(c, verdict="inconclusive")):
        assert contradicts_itself(replace(analysis, comparisons=(wrong, c)))


def test_studies_with_divergence_keep_their_error() -> None:
    for design in ("paired", "unpaired"):
        cell = divergence_error(
            np.random.default_rng(77),
            noise=gaussian_noise,
            seeds=5,
            studies=200,
            design=design,
            alpha=ALPHA,
            together=0.5,
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
