"""The four measures: means, intervals and changes that follow from the seeds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from harness.analysis.measures import MEASURES, Estimate, change, estimate
from harness.analysis.stats.intervals import mean_interval
from harness.analysis.study_analysis import analyse_study
from harness.analysis.study_results import load_results
from harness.report.tables.measures import changes, write_change
from harness.runs.folder import StudyFolder

Write = Callable[..., StudyFolder]
LOSS, PERPLEXITY, ACCURACY, TIME = MEASURES


def test_an_estimate_is_the_mean_and_its_t_interval(made_up_study: Write) -> None:
    folder = made_up_study()
    analyse_study(folder)
    view = load_results(folder)
    losses = list(view.losses("muon").values())
    interval = mean_interval(losses)
    assert interval is not None
    found = estimate(view, "muon", LOSS)
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx(
        (np.mean(losses), interval.low, interval.high)
    )
    perplexity = estimate(view, "muon", PERPLEXITY)
    assert perplexity is not None
    assert perplexity.mean == pytest.approx(math.exp(np.mean(losses)))
    assert perplexity.high == pytest.approx(math.exp(interval.high))


def test_a_change_is_the_paired_difference_in_percent_of_the_baseline(
    made_up_study: Write,
) -> None:
    folder = made_up_study()
    analysis = analyse_study(folder).analysis
    assert analysis is not None
    (comparison,) = analysis.comparisons
    assert comparison.mean_difference is not None
    assert comparison.interval is not None
    view = load_results(folder)
    base = np.mean(list(view.losses("adamw").values()))
    found = change(view, "muon", LOSS)
    assert found is not None
    assert found.mean == pytest.approx(comparison.mean_difference / base)
    own, reference = (np.array(list(view.losses(name).values())) for name in ("muon", "adamw"))
    rest = own - own.mean() / reference.mean() * reference
    half = stats.t.isf(0.025, 4) * rest.std(ddof=1) / math.sqrt(5) / base
    assert found.low == pytest.approx(found.mean - half)
    # Where the baseline varies little this is the interval of the difference.
    assert found.low == pytest.approx(comparison.interval.low / base, rel=0.1)
    ratio = change(view, "muon", PERPLEXITY)
    assert ratio is not None
    assert ratio.mean == pytest.approx(math.exp(comparison.mean_difference) - 1.0)
    slower = change(view, "muon", TIME)
    assert slower is not None
    assert slower.low is not None
    assert slower.low > 0.1, "the made-up Muon takes a fifth more time"


def test_survivors_have_neither_a_mean_nor_a_change(eventful_study: StudyFolder) -> None:
    analyse_study(eventful_study)
    view = load_results(eventful_study)
    for measure in MEASURES:
        assert estimate(view, "muon-hot", measure) is None
        assert change(view, "muon-hot", measure) is None


def test_with_looks_the_change_rests_on_the_seeds_that_were_read(made_up_study: Write) -> None:
    unfinished = frozenset({("muon", 3), ("muon", 4)})
    folder = made_up_study(unfinished=unfinished, analysis={"looks": [3, 5]})
    analysis = analyse_study(folder).analysis
    assert analysis is not None
    view = load_results(folder)
    own, base = view.compared("muon")
    assert [trial.seed for trial in own] == [trial.seed for trial in base] == [0, 1, 2]
    found = change(view, "muon", LOSS)
    assert found is not None
    reference = float(np.mean([trial.loss or 0.0 for trial in base]))
    assert found.mean == pytest.approx((analysis.comparisons[0].mean_difference or 0) / reference)


def test_before_an_analysis_there_is_an_estimate_and_no_change(made_up_study: Write) -> None:
    view = load_results(made_up_study(seeds=(0, 1)))
    found = estimate(view, "muon", ACCURACY)
    assert found is not None
    assert found.low is None, "two seeds have no interval"
    assert change(view, "muon", ACCURACY) is None
    assert changes(view) is None


def test_a_change_is_written_with_its_signs() -> None:
    assert write_change(Estimate(mean=-0.0152, low=-0.017, high=0.0004)) == (
        "−1.52 % [−1.70, +0.04]"
    )
    assert write_change(None) == "–"
