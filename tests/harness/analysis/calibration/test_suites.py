"""Suites whose truth is known."""

import numpy as np
from scipy import stats

from harness.analysis.calibration.suites import calibrate_suites

SUITES = 60


def test_false_verdicts_and_coverage_lie_inside_their_binomial_bounds() -> None:
    found = calibrate_suites(
        np.random.default_rng(0), suites=SUITES, tasks=3, seeds=5, resamples=300
    )
    most = stats.binom.ppf(0.999, SUITES, found.alpha) / SUITES
    least = stats.binom.ppf(0.001, SUITES, 1 - found.alpha) / SUITES
    assert found.false_suites <= most
    # Bounds of 10 intervals; medians and bounded scores are covered more often than promised.
    assert {name: share for name, share in found.coverage.items() if share < least} == {}
    narrow = found.percentile_coverage["iqm_difference of better"]
    assert narrow < found.coverage["iqm_difference of better"]
    assert set(found.to_json()["coverage"]) == set(found.coverage)
