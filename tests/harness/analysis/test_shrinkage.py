"""What a tuning score owes to luck, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.shrinkage import losses_of_search, shrinkage_interval, shrinkages
from harness.analysis.study_results import load_results
from harness.runs.folder import StudyFolder
from harness.training.records import Outcome, OutcomeWord

Write = Callable[..., StudyFolder]
FRESH = [3.41, 3.43, 3.40, 3.44, 3.42]


def test_one_tuning_seed_is_judged_as_one_more_run() -> None:
    interval, basis = shrinkage_interval([3.38], FRESH, level=0.95)
    half = stats.t.isf(0.025, 4) * np.std(FRESH, ddof=1) * math.sqrt(1.0 + 1.0 / 5.0)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((-0.04 - half, -0.04 + half))
    assert basis == "one tuning seed, its noise taken from 5 confirmation seeds"


def test_two_tuning_seeds_are_a_sample_of_their_own() -> None:
    tuning = [3.37, 3.39]
    interval, basis = shrinkage_interval(tuning, FRESH, level=0.9)
    student = stats.ttest_ind(tuning, FRESH).confidence_interval(0.9)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((student.low, student.high))
    assert interval.level == 0.9
    assert basis == "t over 2 tuning and 5 confirmation seeds"


@pytest.mark.parametrize(
    ("tuning", "confirmation", "reason"),
    [
        ([3.4], [3.41, 3.42], "only 2 of 3 confirmation seeds"),
        ([3.4, 3.41], [3.4], "only 1 of 3 confirmation seeds"),
        ([3.3], [3.4, 3.4, 3.4], "the same loss"),
        ([3.3, 3.3], [3.4, 3.4, 3.4], "the same loss"),
    ],
)
def test_where_nothing_is_known_of_the_noise_there_is_no_interval(
    tuning: list[float], confirmation: list[float], reason: str
) -> None:
    interval, basis = shrinkage_interval(tuning, confirmation, level=0.95)
    assert interval is None
    assert reason in basis


def test_one_side_without_noise_leaves_the_other() -> None:
    interval, _ = shrinkage_interval([3.3, 3.3], FRESH, level=0.95)
    assert interval is not None
    interval, _ = shrinkage_interval([3.3, 3.32], [3.4] * 3, level=0.95)
    assert interval is not None


@pytest.mark.parametrize(("tuning", "fresh"), [(1, 3), (1, 8), (2, 5), (3, 3)])
def test_without_a_choice_the_interval_covers_zero_as_often_as_it_says(
    tuning: int, fresh: int
) -> None:
    rng = np.random.default_rng(71)
    covered, studies = 0, 1_500
    for _ in range(studies):
        interval, _ = shrinkage_interval(
            rng.normal(size=tuning).tolist(), rng.normal(size=fresh).tolist(), level=0.95
        )
        assert interval is not None
        covered += 0.0 in interval
    assert abs(covered / studies - 0.95) <= 4.0 * math.sqrt(0.95 * 0.05 / studies)


losses = st.lists(st.floats(2.0, 5.0), min_size=3, max_size=8).filter(lambda x: np.ptp(x) > 1e-3)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(2.0, 5.0), min_size=1, max_size=4), losses, st.floats(-1.0, 1.0))
def test_the_interval_surrounds_the_shrinkage_and_moves_with_the_score(
    tuning: list[float], confirmation: list[float], shift: float
) -> None:
    interval, _ = shrinkage_interval(tuning, confirmation, level=0.95)
    moved, _ = shrinkage_interval([x + shift for x in tuning], confirmation, level=0.95)
    assert interval is not None
    assert moved is not None
    middle = (interval.low + interval.high) / 2.0
    assert middle == pytest.approx(np.mean(tuning) - np.mean(confirmation), abs=1e-9)
    assert moved.low - interval.low == pytest.approx(shift, abs=1e-6)


def test_a_study_says_what_its_shrinkage_rests_on(made_up_search: Write) -> None:
    view = load_results(made_up_search(tuning={"trials": 3}))
    for item in shrinkages(view):
        assert item.shrinkage is not None
        assert item.shrinkage in item.interval
        assert item.interval.level == view.level
        assert item.basis == "t over 2 tuning and 5 confirmation seeds"
    single = made_up_search(name="single", tuning={"trials": 3}, tuning_seeds=(100,))
    for item in shrinkages(load_results(single)):
        assert item.shrinkage in item.interval
        assert str(item.basis).startswith("one tuning seed")


def test_what_was_not_confirmed_has_no_interval(made_up_search: Write) -> None:
    view = load_results(made_up_search(tuning={"trials": 3, "steps": 60}))
    assert {(item.interval, item.basis) for item in shrinkages(view)} == {(None, None)}


@pytest.mark.parametrize("word", ["failed", "out_of_memory", "stopped", "diverged"])
def test_a_failure_is_no_loss_and_what_the_training_did_is(
    made_up_search: Write, word: OutcomeWord
) -> None:
    folder = made_up_search(tuning={"trials": 3})
    before = load_results(folder).search
    assert before is not None
    best = before.variants["muon"].chosen
    assert best is not None
    folder.trial(best.keys[100]).finish(Outcome(outcome=word))
    results = load_results(folder)
    assert results.search is not None
    after = results.search.variants["muon"]
    assert after.ledger.configurations == 3
    assert after.chosen is not None
    assert after.chosen.index != best.index
    losses = losses_of_search(results)
    assert len(losses["adamw"]) == 3
    if word in ("failed", "out_of_memory"):
        assert len(losses["muon"]) == 2
    else:
        assert sorted(losses["muon"])[-1] == max(max(values) for values in losses.values())
        assert len(losses["muon"]) == 3
