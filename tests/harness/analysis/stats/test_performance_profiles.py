"""Performance profiles against AlgoPerf's published scores, and their laws."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.stats.performance_profiles import (
    performance_ratios,
    profile_area,
    profile_steps,
    share_within,
)

PUBLISHED = Path(__file__).parent / "algoperf"
cost = st.one_of(st.floats(0.1, 1e6), st.just(np.inf))
tables = st.integers(1, 5).flatmap(
    lambda tasks: st.lists(st.lists(cost, min_size=tasks, max_size=tasks), min_size=1, max_size=5)
)


def published(file: str, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Costs (submissions, workloads) and the scores that were published for them."""
    with (PUBLISHED / "scores.csv").open() as scores:
        stated = {row["submission"]: float(row[column]) for row in csv.DictReader(scores)}
    with (PUBLISHED / file).open() as times:
        rows = list(csv.reader(times))[1:]
    costs = [[float(cell or "inf") for cell in row[1:]] for row in rows]
    return np.array(costs), np.array([stated[row[0]] for row in rows])


BY_CLOCK = [
    ("seconds_to_target.csv", "score_by_wallclock"),
    ("steps_to_target.csv", "score_by_steps"),
]


@pytest.mark.parametrize(("file", "column"), BY_CLOCK)
def test_the_published_scores_of_algoperf_follow_from_its_published_times(file, column) -> None:
    costs, scores = published(file, column)
    points = np.linspace(1.0, 4.0, 100)
    profile = share_within(performance_ratios(costs), points)
    assert len(scores) == 16
    assert np.trapezoid(profile, points, axis=1) / 3.0 == pytest.approx(scores, abs=1e-12)


@pytest.mark.parametrize(("file", "column"), BY_CLOCK)
def test_the_exact_area_differs_from_a_published_score_by_no_more_than_its_grid(
    file, column
) -> None:
    costs, scores = published(file, column)
    assert profile_area(performance_ratios(costs)) == pytest.approx(scores, abs=0.002)


def test_the_area_is_what_the_steps_of_the_profile_enclose() -> None:
    ratios = performance_ratios([[1.0, 3.0, np.inf], [2.0, 1.0, 5.0]])
    assert ratios.tolist() == [[1.0, 3.0, np.inf], [2.0, 1.0, 1.0]]
    assert profile_area(ratios) == pytest.approx([(1.0 + 1 / 3 + 0.0) / 3, (2 / 3 + 1 + 1) / 3])
    assert profile_steps(ratios[0], largest_ratio=4.0) == ((1.0, 3.0, 4.0), (1 / 3, 2 / 3, 2 / 3))


@settings(max_examples=60, deadline=None)
@given(tables, st.floats(1.1, 20.0))
def test_profiles_rise_and_scores_lie_between_0_and_1(costs, largest) -> None:
    ratios = performance_ratios(costs)
    shares = share_within(ratios, np.linspace(1.0, largest, 30))
    assert (np.diff(shares, axis=1) >= 0.0).all()
    areas = profile_area(ratios, largest_ratio=largest)
    assert ((areas >= 0.0) & (areas <= 1.0)).all()
    for own, area in zip(ratios, areas, strict=True):
        taus, steps = profile_steps(own, largest_ratio=largest)
        enclosed = np.sum(np.diff(taus) * np.array(steps[:-1])) / (largest - 1.0)
        assert enclosed == pytest.approx(area, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(tables, st.randoms(use_true_random=False), st.floats(0.01, 100.0))
def test_scores_ask_neither_for_the_order_nor_for_the_unit_of_a_task(costs, random, unit) -> None:
    table = np.array(costs)
    tasks, contestants = list(range(table.shape[1])), list(range(table.shape[0]))
    random.shuffle(tasks)
    random.shuffle(contestants)
    scaled = table[:, tasks][contestants] * np.where(np.arange(len(tasks)) == 0, unit, 1.0)
    expected = profile_area(performance_ratios(table))[contestants]
    assert profile_area(performance_ratios(scaled)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("costs", [[[0.0]], [[-1.0]], [[float("nan")]], [1.0], [[]]])
def test_what_is_no_cost_is_refused(costs) -> None:
    with pytest.raises(ValueError, match="costs"):
        performance_ratios(costs)


def test_a_profile_needs_room_above_the_fastest() -> None:
    with pytest.raises(ValueError, match="largest_ratio"):
        profile_area([[1.0]], largest_ratio=1.0)
