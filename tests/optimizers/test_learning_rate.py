import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from optimizers import LearningRateSchedule, learning_rate_factor

schedules = st.builds(
    LearningRateSchedule,
    kind=st.sampled_from(["constant", "cosine", "wsd", "linear"]),
    warmup_steps=st.integers(0, 50),
    floor=st.floats(0, 1),
    decay_fraction=st.floats(0.01, 1),
)


@settings(max_examples=200, deadline=None)
@given(schedule=schedules, step=st.integers(0, 500), total_steps=st.integers(1, 300))
def test_the_factor_is_bounded_and_the_same_every_time(
    schedule: LearningRateSchedule, step: int, total_steps: int
) -> None:
    factor = learning_rate_factor(schedule, step=step, total_steps=total_steps)
    assert 0.0 <= factor <= 1.0 + 1e-12
    if step >= schedule.warmup_steps:
        assert factor >= schedule.floor - 1e-12
    else:
        assert factor > 0.0
    assert factor == learning_rate_factor(schedule, step=step, total_steps=total_steps)


@settings(max_examples=100, deadline=None)
@given(schedule=schedules, total_steps=st.integers(1, 120))
def test_the_factor_rises_in_the_warmup_and_never_after_it(
    schedule: LearningRateSchedule, total_steps: int
) -> None:
    factors = [
        learning_rate_factor(schedule, step=step, total_steps=total_steps)
        for step in range(total_steps)
    ]
    warmup, rest = factors[: schedule.warmup_steps], factors[schedule.warmup_steps :]
    assert warmup == sorted(warmup)
    assert rest == sorted(rest, reverse=True)


@pytest.mark.parametrize("kind", ["cosine", "wsd", "linear"])
def test_the_floor_is_reached_one_step_after_the_last(kind: str) -> None:
    schedule = LearningRateSchedule(kind=kind, floor=0.1, warmup_steps=10)
    assert 0.1 < learning_rate_factor(schedule, step=99, total_steps=100) < 0.15
    assert learning_rate_factor(schedule, step=100, total_steps=100) == pytest.approx(0.1)
    assert learning_rate_factor(schedule, step=500, total_steps=100) == pytest.approx(0.1)


@settings(max_examples=200, deadline=None)
@given(schedule=schedules, total_steps=st.integers(1, 300), data=st.data())
def test_no_step_of_a_training_is_wasted_at_a_rate_of_zero(
    schedule: LearningRateSchedule, total_steps: int, data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, total_steps - 1))
    to_zero = schedule.model_copy(update={"floor": 0.0})
    assert learning_rate_factor(to_zero, step=step, total_steps=total_steps) > 0.0


@pytest.mark.parametrize(
    ("kind", "step", "expected"),
    [
        ("constant", 50, 1.0),
        ("cosine", 0, 1.0),
        ("cosine", 50, 0.5),
        ("linear", 25, 0.75),
        ("wsd", 80, 1.0),
        ("wsd", 90, 0.5),
    ],
)
def test_the_shapes_have_their_known_values(kind: str, step: int, expected: float) -> None:
    schedule = LearningRateSchedule(kind=kind, decay_fraction=0.2)
    factor = learning_rate_factor(schedule, step=step, total_steps=100)
    assert factor == pytest.approx(expected)


def test_the_warmup_never_wastes_a_step_at_zero_and_ends_at_the_peak() -> None:
    schedule = LearningRateSchedule(kind="constant", warmup_steps=4)
    factors = [learning_rate_factor(schedule, step=step, total_steps=9) for step in range(6)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_impossible_steps_and_unknown_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="got -1 and 10"):
        learning_rate_factor(LearningRateSchedule(), step=-1, total_steps=10)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        LearningRateSchedule(warm_up=3)


def test_a_schedule_with_a_length_of_its_own_is_cut_by_the_training() -> None:
    # 250 updates under a horizon of 1000, warmup 50: the cosine comes a fifth of its way.
    own = LearningRateSchedule(warmup_steps=50, floor=0.1, total_steps=1000)
    whole = LearningRateSchedule(warmup_steps=50, floor=0.1)
    for step in (0, 49, 120, 249):
        cut = learning_rate_factor(own, step=step, total_steps=250)
        assert cut == learning_rate_factor(whole, step=step, total_steps=1000)
    assert learning_rate_factor(own, step=249, total_steps=250) == pytest.approx(0.906, abs=5e-4)
    assert "total_steps" not in whole.model_dump()
