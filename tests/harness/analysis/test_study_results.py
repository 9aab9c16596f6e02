"""What a study's files tell."""

from __future__ import annotations

from collections.abc import Callable

from harness.analysis.learning_curves import band, validation_loss
from harness.analysis.study_analysis import analyse_study
from harness.analysis.study_results import load_results
from harness.runs.folder import StudyFolder

Write = Callable[..., StudyFolder]


def test_variants_are_ranked_by_mean_loss(made_up_study: Write) -> None:
    assert load_results(made_up_study()).ranked() == ("muon", "adamw")


def test_a_variant_that_lost_a_seed_stands_behind_those_that_lost_none(
    eventful_study: StudyFolder,
) -> None:
    expected = ("muon", "adamw-high", "adamw", "muon-hot", "muon-slow")
    assert load_results(eventful_study).ranked() == expected
    analyse_study(eventful_study)
    assert load_results(eventful_study).ranked() == expected


def test_a_variant_without_any_result_comes_last(made_up_study: Write) -> None:
    lost = {("adamw", seed): "it crashed" for seed in range(5)}
    assert load_results(made_up_study(failed=lost)).ranked() == ("muon", "adamw")


def test_equal_settings_are_twins_that_share_their_runs(made_up_study: Write) -> None:
    same = {"kind": "adamw", "lr": 0.004}
    view = load_results(made_up_study(variants={"adamw": same, "again": same}))
    assert view.twins("adamw") == ("again",)
    assert len(view.distinct()) == 5
    assert view.losses("adamw") == view.losses("again")


def test_a_diverged_trial_has_a_curve_and_no_loss(eventful_study: StudyFolder) -> None:
    trial = load_results(eventful_study).of("muon-hot")[3]
    assert trial.loss is None
    assert max(validation_loss(trial)) == 50


def test_a_band_covers_the_steps_that_all_seeds_have() -> None:
    found = band([{0: 1.0, 10: 2.0}, {0: 3.0, 10: 4.0, 20: 9.0}])
    assert found is not None
    assert (found.steps, found.mean, found.seeds) == ((0, 10), (2.0, 3.0), 2)
    assert not found.has_interval, "two seeds have no interval"


def test_a_band_is_the_t_interval() -> None:
    found = band([{0: 1.0}, {0: 2.0}, {0: 3.0}])
    assert found is not None
    # t(0.975, 2) = 4.30265; the standard error of 1, 2, 3 is 1 / sqrt(3).
    assert abs(found.high[0] - (2.0 + 4.30265 / 3**0.5)) < 1e-4


def test_there_is_no_band_without_a_common_step() -> None:
    assert band([{0: 1.0}, {10: 1.0}]) is None
    assert band([]) is None


def test_a_study_is_complete_when_every_trial_has_ended(made_up_study: Write) -> None:
    assert load_results(made_up_study()).complete
    unfinished = made_up_study(name="other", unfinished=frozenset({("muon", 4)}))
    assert not load_results(unfinished).complete
