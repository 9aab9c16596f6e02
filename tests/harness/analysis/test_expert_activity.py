"""What the reports of a trial say about its experts, by hand."""

from __future__ import annotations

import pytest

from harness.analysis.expert_activity import expert_use, mean_of_known
from harness.training.records import ExpertActivity, Report


def report(step: int, experts: ExpertActivity | None) -> Report:
    return Report(
        step=step,
        tokens=10 * step,
        train_loss=3.0,
        validation_loss=3.0,
        validation_accuracy=0.1,
        learning_rate=0.1,
        gradient_norm=1.0,
        train_time_s=1.0,
        step_time_s=0.1,
        tokens_per_s=100.0,
        evaluation_time_s=0.1,
        startup_time_s=0.1,
        peak_memory_bytes=1,
        router_load=[[0.5, 0.5]],
        dead_experts=0,
        counters={},
        experts=experts,
    )


def periods(*pairs: tuple[list[int], list[float | None]]) -> list[Report]:
    """One MoE layer: the report before the first step, then tokens and movement by period."""
    made = [ExpertActivity(tokens=[tokens], movement=[moved]) for tokens, moved in pairs]
    return [report(0, None), *(report(i + 1, experts) for i, experts in enumerate(made))]


def test_the_expert_of_fewest_tokens_is_that_of_the_whole_training() -> None:
    found = expert_use(periods(([0, 9, 5], [3.0, 1.0, 1.0]), ([9, 0, 3], [1.0, 2.0, 0.5])))
    assert found is not None
    assert (found.fewest_tokens, found.its_movement) == (8, 1.5)


def test_a_starved_expert_is_one_of_a_period_and_the_fed_are_the_scale() -> None:
    found = expert_use(periods(([0, 9, 5], [3.0, 1.0, 1.0]), ([9, 0, 3], [1.0, 2.0, 0.5])))
    assert found is not None
    assert found.starved_periods == pytest.approx(2 / 6)
    assert found.starved_movement == 3.0
    assert found.fed_movement == 1.0


def test_without_a_starved_period_there_is_no_movement_of_one() -> None:
    found = expert_use(periods(([1, 9, 5], [3.0, 1.0, 1.0])))
    assert found is not None
    assert found.starved_periods == 0
    assert found.starved_movement is None


def test_reports_of_a_dense_model_or_an_older_version_say_nothing() -> None:
    assert expert_use(periods()) is None
    fields = report(1, None).model_dump(mode="json")
    del fields["experts"]
    assert expert_use([Report.model_validate(fields)]) is None


def test_what_is_not_known_is_not_counted_as_zero() -> None:
    assert mean_of_known([None, 1.0, 2.0]) == 1.5
    assert mean_of_known([None]) is None
