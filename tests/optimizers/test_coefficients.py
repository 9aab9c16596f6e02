from dataclasses import replace

import pytest

from optimizers.coefficients import SCHEDULES, Schedule, find_schedule


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_descends_at_one_for_every_length_it_allows(name: str) -> None:
    schedule = SCHEDULES[name]
    longest = len(schedule.triples) if schedule.beyond == "error" else 20
    assert all(schedule.polynomial(1.0, num_steps=n) > 0 for n in range(1, longest + 1))


def test_a_schedule_that_ascends_at_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must lie between 0 \(or the update would ascend\)"):
        Schedule("wrong", ((3.0, -4.0, 0.5),), "repeat_last", "nobody")


@pytest.mark.parametrize("name", ["you", "cans"])
def test_more_steps_than_a_tuned_schedule_has_is_an_error(name: str) -> None:
    assert len(find_schedule(name).steps(5)) == 5
    with pytest.raises(ValueError, match="has 5 steps, got num_steps = 6"):
        find_schedule(name).steps(6)


def test_polar_express_repeats_its_last_triple_and_never_cycles() -> None:
    steps = find_schedule("polar_express").steps(11)
    assert steps[7:] == ((1.875, -1.25, 0.375),) * 4


def test_polar_express_carries_the_safety_factor_on_all_but_the_last_triple() -> None:
    first, *_, last = find_schedule("polar_express").triples
    assert first[0] == pytest.approx(8.28721201814563 / 1.01, rel=1e-12)
    assert first[2] == pytest.approx(17.300387312530933 / 1.01**5, rel=1e-12)
    assert last == (1.875, -1.25, 0.375)


def test_fewer_steps_take_the_first_triples() -> None:
    assert find_schedule("you").steps(2) == find_schedule("you").triples[:2]


def test_the_seed_studys_epsilons_are_kept() -> None:
    epsilons = {name: SCHEDULES[name].epsilon for name in SCHEDULES}
    assert epsilons["jordan"] == 1e-7
    assert epsilons["conservative"] == epsilons["mild_aggressive"] == 1e-6
    assert epsilons["ultra_stable"] == 1e-5


def test_an_unknown_schedule_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown Newton-Schulz schedule 'jordon': choose jordan"):
        find_schedule("jordon")


def test_a_schedule_that_explodes_just_above_one_is_refused() -> None:
    cans = SCHEDULES["cans"]
    published = (
        (8.4703, -25.1081, 18.6293),
        (4.1828, -3.1087, 0.5806),
        (3.9619, -2.9541, 0.5630),
        (3.2866, -2.4647, 0.5074),
        (2.2737, -1.6447, 0.4162),
    )
    with pytest.raises(ValueError, match=r"must lie between 0 .* norm_factor of 1\.01"):
        replace(cans, triples=published, norm_factor=1.0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_no_schedule_leaves_zero_to_two_on_what_rounding_may_bring(name: str) -> None:
    schedule = SCHEDULES[name]
    longest = len(schedule.triples) if schedule.beyond == "error" else 16
    for num_steps in range(1, longest + 1):
        for value in (0.001, 0.1, 0.5, 0.9, 1.0, 1.002, 1.01):
            result = schedule.polynomial(value / schedule.norm_factor, num_steps=num_steps)
            assert 0 < result < 2
