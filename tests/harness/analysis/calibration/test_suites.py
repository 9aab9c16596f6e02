"""Suites whose truth is known."""

import numpy as np
from scipy import stats

from harness.analysis.calibration.suites import calibrate_suites, false_suites

SUITES = 60


def test_any_false_verdict_over_all_tasks_and_contestants_is_as_rare_as_alpha() -> None:
    suites, alpha = 20_000, 0.05
    found = false_suites(np.random.default_rng(1), suites=suites, tasks=4, seeds=5, alpha=alpha)
    assert found <= stats.binom.ppf(0.999, suites, alpha) / suites
    assert found > 0.8 * alpha  # and hardly rarer: the share is not wasted


def test_coverage_lies_inside_its_binomial_bounds() -> None:
    found = calibrate_suites(
        np.random.default_rng(0), suites=SUITES, tasks=3, seeds=5, resamples=300
    )
    least = stats.binom.ppf(0.001, SUITES, 1 - found.alpha) / SUITES
    # Bounds of 10 intervals; medians and bounded scores are covered more often than promised.
    assert {name: share for name, share in found.coverage.items() if share < least} == {}
    narrow = found.percentile_coverage["iqm_difference of better"]
    assert narrow < found.coverage["iqm_difference of better"]
    assert set(found.to_json()["coverage"]) == set(found.coverage)
