"""A study that goes on after the code has changed says so, and can train the old runs again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.analysis.study_analysis import analyse_study
from harness.runs.folder import StudyFolder
from harness.runs.other_code import other_code_notice, trained_by_other
from harness.runs.plan_file import load_plan
from harness.study.code_version import code_sha256, code_version
from harness.training.records import Arithmetic

Write = Callable[..., StudyFolder]
ON_CPU = Arithmetic(precision="fp32", device_type="cpu", device="a processor", torch="2.13.0")
THIS = {"code_sha256": code_sha256(), "code_version": code_version()}
OTHER = {"code_sha256": "f" * 16, "code_version": "e4f5a6b"}


def trained(folder: StudyFolder, code: dict[str, str], *, seeds: tuple[int, ...]) -> None:
    """Rewrites the outcomes of these seeds as if this code had trained them."""
    for row in load_plan(folder).trials:
        outcome = folder.trial(row.key).outcome()
        if row.seed in seeds and outcome is not None:
            update: dict[str, Any] = {**code, "arithmetic": ON_CPU}
            folder.trial(row.key).finish(outcome.model_copy(update=update))


@pytest.fixture
def half_way(made_up_study: Write) -> StudyFolder:
    """The last seed of both variants is still to be trained."""
    return made_up_study(unfinished=frozenset({("adamw", 4), ("muon", 4)}))


def test_a_run_hears_which_trials_other_code_has_trained(half_way: StudyFolder) -> None:
    trained(half_way, THIS, seeds=(0, 1))
    trained(half_way, OTHER, seeds=(2, 3))
    notice = other_code_notice(half_way, load_plan(half_way))
    assert notice is not None
    assert ": 4 by e4f5a6b, sources ffffffff. " in notice
    assert "--retrain-other-code" in notice
    assert 'pairing = "paired"' in notice


def test_trials_of_this_code_are_no_news(half_way: StudyFolder) -> None:
    trained(half_way, THIS, seeds=(0, 1, 2, 3))
    assert other_code_notice(half_way, load_plan(half_way)) is None


def test_trials_that_recorded_nothing_count_as_other_code(half_way: StudyFolder) -> None:
    notice = other_code_notice(half_way, load_plan(half_way))
    assert notice is not None
    assert "8 by code that was not recorded" in notice


def test_a_finished_study_is_left_in_peace(made_up_study: Write) -> None:
    folder = made_up_study()
    trained(folder, OTHER, seeds=(0, 1, 2, 3, 4))
    assert other_code_notice(folder, load_plan(folder)) is None


def test_a_failure_is_not_trained_again_for_its_code(made_up_study: Write) -> None:
    folder = made_up_study(failed={("muon", 1): "a worker died"})
    ended = {row: folder.trial(row.key).outcome() for row in load_plan(folder).trials}
    again = [
        (row.variant, row.seed)
        for row, outcome in ended.items()
        if outcome is not None and trained_by_other(outcome, code_sha256())
    ]
    assert len(again) == 9
    assert ("muon", 1) not in again


def test_a_study_of_two_codes_is_unpaired_and_its_report_says_which_seeds(
    made_up_study: Write,
) -> None:
    folder = made_up_study()
    trained(folder, THIS, seeds=(0, 1, 2))
    trained(folder, OTHER, seeds=(3, 4))
    analysis = analyse_study(folder).analysis
    assert analysis is not None
    (comparison,) = analysis.comparisons
    assert not comparison.paired
    assert "seeds 3, 4 in fp32 on cpu with torch 2.13.0 by code e4f5a6b (ffffffff)" in (
        comparison.pairing_reason
    )
    trained(folder, THIS, seeds=(3, 4))
    analysis = analyse_study(folder).analysis
    assert analysis is not None
    assert analysis.comparisons[0].pairing_certified
