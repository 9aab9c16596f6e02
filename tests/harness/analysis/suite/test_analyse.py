"""A suite judged as a whole: whose error it is, what counts, and in which order."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from suites_of_tables import VARIANTS, made_task

from harness.analysis.stats.intervals import Interval
from harness.analysis.suite.analyse import analyse_tasks
from harness.analysis.suite.results import SuiteAnalysis
from harness.analysis.suite.task_data import TaskData
from harness.report.suite.values import written
from harness.study.suite_settings import SuiteSettings

SETTINGS = SuiteSettings(resamples=200)
EFFECTS = {"adamw": 0.0, "muon": -0.05, "lion": 0.0}


def suite(tasks: list[TaskData], settings: SuiteSettings = SETTINGS, **more) -> SuiteAnalysis:
    return analyse_tasks("made-up", tasks, settings, variants=VARIANTS, baseline="adamw", **more)


def three(**more) -> list[TaskData]:
    return [made_task(f"t{i}", EFFECTS, of=3, seed=i, **more) for i in range(3)]


def test_a_verdict_is_adjusted_for_every_contestant_on_every_task() -> None:
    tasks = three()
    analysis = suite(tasks)
    for task in tasks:
        assert task.analysis is not None
        for comparison in task.analysis.comparisons:
            result = analysis.result(task.name, comparison.variant)
            assert result.adjusted_p == pytest.approx(min(1.0, 6 * comparison.p))
            assert result.interval is not None
            assert result.interval.level == pytest.approx(1 - 0.05 / 6)
            assert (result.adjusted_p < 0.05) == (0.0 not in result.interval)
            assert result.sentence is not None
            assert "adjusted for 6" in result.sentence
    assert analysis.standing("muon").better == 3
    assert analysis.standing("muon").sentence == (
        "muon is better than adamw on 3 of 3 tasks, worse on none"
    )
    assert "at most 0.05" in analysis.notes[0]


def test_the_leaderboard_is_in_the_order_of_the_area_and_ties_share_a_place() -> None:
    analysis = suite(three(costs={"adamw": 1000.0, "muon": 500.0, "lion": 1000.0}))
    assert analysis.ordered_by == "score"
    assert [row.variant for row in analysis.leaderboard] == ["muon", "adamw", "lion"]
    assert [row.place for row in analysis.leaderboard] == [1, 2, 2]
    best, base = analysis.leaderboard[:2]
    assert best.score is not None
    assert base.score is not None
    assert best.score.value == 1.0
    assert base.score.value == pytest.approx(2 / 3)
    assert best.speedup is not None
    assert best.speedup.value == pytest.approx(2.0)
    assert base.speedup is None
    profile = next(p for p in analysis.profiles if p.variant == "adamw")
    assert profile.ratios == (1.0, 2.0, 4.0)
    assert profile.shares == (0.0, 1.0, 1.0)


def test_without_costs_the_mean_rank_orders() -> None:
    analysis = suite(three())
    assert analysis.ordered_by == "mean rank"
    assert analysis.leaderboard[0].variant == "muon"
    assert analysis.profiles == ()
    assert analysis.leaderboard[0].score is None


def test_a_diverged_task_counts_and_is_seen() -> None:
    costs = {"adamw": 1000.0, "muon": 500.0, "lion": 900.0}
    tasks = [
        made_task(f"t{i}", EFFECTS, of=3, seed=i, costs=costs, lost={"muon": 8} if i == 0 else {})
        for i in range(3)
    ]
    analysis = suite(tasks)
    row = analysis.standing("muon")
    assert (row.reached, row.tasks) == (2, 3)
    assert (row.lost, row.diverged, row.runs) == (8, 8, 24)
    assert row.score is not None
    assert row.score.value == pytest.approx(2 / 3)
    assert row.speedup is None
    lost = analysis.result("t0", "muon")
    assert (lost.rank, lost.cost, lost.ratio, lost.mean_loss) == (3.0, None, None, None)
    assert lost.verdict == "worse"
    assert row.worse == 1
    assert any("did not complete" in note for note in analysis.notes)


def test_runs_that_never_arrive_leave_the_side_open_that_they_make_worse() -> None:
    """A contestant whose runs may not arrive is not shown to be any faster."""
    costs = {"adamw": 1000.0, "muon": 500.0, "lion": 900.0}

    def of(lost: dict[str, int]) -> SuiteAnalysis:
        return suite(
            [
                made_task(f"t{i}", EFFECTS, of=3, seed=i, costs=costs, lost={} if i else lost)
                for i in range(3)
            ]
        )

    own, base, both = of({"muon": 3}), of({"adamw": 3}), of({"muon": 3, "adamw": 3})
    slower = own.standing("muon").speedup
    assert slower is not None
    assert (slower.value, slower.low, slower.high) == pytest.approx((2.0, None, 2.0))
    assert not slower.unbounded
    faster = base.standing("muon").speedup
    assert faster is not None
    assert (faster.value, faster.low, faster.high) == pytest.approx((2.0, 2.0, None))
    unknown = both.standing("muon").speedup
    assert unknown is not None
    assert (unknown.low, unknown.high, unknown.unbounded) == (None, None, True)
    assert written(unknown) == "2.00 [–, –]"
    exact = suite(three(costs=costs)).standing("muon").speedup
    assert exact is not None
    assert written(exact) == "2.00", "nothing varied"


def test_where_nobody_arrives_there_is_no_speed_up_of_one() -> None:
    tasks = [
        replace(
            task,
            has_costs=True,
            runs={
                name: tuple(replace(run, cost=None) for run in own)
                for name, own in task.runs.items()
            },
        )
        for task in three()
    ]
    row = suite(tasks).standing("muon")
    assert row.score is not None
    assert (row.score.value, row.reached) == (0.0, 0)
    assert row.speedup is row.iqm_speedup is None


def test_seeds_of_a_task_without_costs_say_nothing_of_a_score_of_costs() -> None:
    rng = np.random.default_rng(3)
    timed = made_task(
        "t0", EFFECTS, of=2, seed=0, seeds=range(7), costs=dict.fromkeys(EFFECTS, 1.0)
    )
    noisy = {
        name: tuple(replace(run, cost=float(np.exp(0.2 * rng.normal()))) for run in own)
        for name, own in timed.runs.items()
    }
    timed = replace(timed, runs=noisy)
    many, other = SuiteSettings(resamples=2000), made_task("t1", EFFECTS, of=2, seed=1)
    alone = suite([timed], many).standing("muon").iqm_speedup
    beside = suite([timed, other], many).standing("muon").iqm_speedup
    assert alone is not None
    assert alone == beside


def test_tasks_of_one_name_of_size_are_one_size() -> None:
    """Models of 229, 230 and 231 thousand parameters carry no line over size."""
    speedups = {"muon": 1.4, "lion": 1.0}

    def why_not(sizes: tuple[float, ...], names: tuple[str | None, ...]) -> str | None:
        tasks = [
            replace(made_task(f"t{i}", EFFECTS, of=9, seed=i, size=s, speedups=speedups), size=name)
            for i, (s, name) in enumerate(zip(sizes, names, strict=True))
        ]
        return suite(tasks).speedups[0].why_not

    near = (229e3, 230e3, 231e3)
    assert why_not(near, (None, None, None)) is None, "nobody said that they are one"
    assert (why_not(near, ("tiny", "tiny", "tiny")) or "").startswith("1 of active parameters")
    assert (why_not((1e6, 1.1e6, 4e6), ("a", "a", "b")) or "").startswith("2 of active parameters")
    tasks = [
        replace(made_task(f"t{i}", EFFECTS, of=9, seed=i, size=s, speedups=speedups), size=name)
        for i, (s, name) in enumerate([(1e6, "a"), (4e6, "a"), (8e6, "b"), (16e6, None)])
    ]
    found = suite(tasks).speedups[0]
    places = [point.active_parameters for point in found.points]
    assert places == pytest.approx([2e6, 2e6, 8e6, 16e6])
    assert found.fit is not None


def test_a_baseline_alone_has_no_verdicts_to_promise() -> None:
    tasks = [
        replace(
            task,
            runs={"adamw": task.runs["adamw"]},
            analysis=replace(task.analysis, comparisons=()) if task.analysis else None,
        )
        for task in three()
    ]
    alone = analyse_tasks("x", tasks, SETTINGS, variants=["adamw"], baseline="adamw")
    assert alone.notes[0] == "adamw is alone: there is nothing to compare, and no verdict"


def test_an_unfinished_task_counts_nowhere_but_keeps_its_share_of_the_error() -> None:
    whole, part = suite(three()), suite([*three()[:2], TaskData(name="t2", why_not="no seeds")])
    assert part.result("t0", "muon").adjusted_p == whole.result("t0", "muon").adjusted_p
    assert part.result("t2", "muon").rank is None
    assert part.standing("muon").tasks == 2
    assert part.tasks[2].why_not == "no seeds"
    assert any("t2" in note for note in part.notes)
    nothing = suite([TaskData(name="t0", why_not="no seeds")])
    assert nothing.leaderboard == ()
    assert nothing.ranks.why_not == "no task has a result yet"


def test_verdicts_of_seeds_that_were_added_late_are_said_to_be_exploratory() -> None:
    tasks = three()
    assert not any("exploratory" in note for note in suite(tasks).notes)
    assert tasks[1].analysis is not None
    late = tuple(replace(c, exploratory=True) for c in tasks[1].analysis.comparisons)
    tasks[1] = replace(tasks[1], analysis=replace(tasks[1].analysis, comparisons=late))
    analysis = suite(tasks)
    assert any(note.startswith("exploratory on t1:") for note in analysis.notes)
    assert analysis.result("t1", "muon").exploratory


def test_few_tasks_are_said_to_be_worth_little_for_ranks() -> None:
    ranks = suite(three()).ranks
    assert ranks.note is not None
    assert "too few" in ranks.note
    assert ranks.groups
    many = suite([made_task(f"t{i}", EFFECTS, of=9, seed=i) for i in range(9)]).ranks
    assert many.note is None
    assert many.friedman_p is not None
    two = analyse_tasks("x", three(), SETTINGS, variants=["adamw", "muon"], baseline="adamw")
    assert two.ranks.why_not is not None


def test_it_comes_back_from_json_as_it_was() -> None:
    tasks = [
        replace(task, active_parameters=10.0**i, tokens=1e9)
        for i, task in enumerate(three(costs={"adamw": 1000.0, "muon": 500.0, "lion": 900.0}))
    ]
    analysis = suite(tasks)
    values = json.loads(json.dumps(analysis.to_json(), allow_nan=False))
    assert values.pop("suite_schema_version") == 1
    assert TypeAdapter(SuiteAnalysis).validate_python(values) == analysis


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(3)))
def test_the_order_of_the_tasks_decides_nothing_but_the_draws(order) -> None:
    costs = {"adamw": 1000.0, "muon": 700.0, "lion": 1100.0}
    tasks = three(costs=costs)
    one, other = suite(tasks), suite([tasks[index] for index in order])
    for row in one.leaderboard:
        twin = other.standing(row.variant)
        assert twin.place == row.place
        for score in ("score", "mean_rank", "speedup", "iqm_difference", "improvement"):
            a, b = getattr(row, score), getattr(twin, score)
            assert a is b is None or a.value == pytest.approx(b.value)
    assert one.ranks == other.ranks


def test_every_interval_contains_what_it_is_of() -> None:
    rng = np.random.default_rng(0)
    costs = {"adamw": 1000.0, "muon": 700.0, "lion": 950.0}
    analysis = suite(
        [made_task(f"t{i}", EFFECTS, of=4, seed=rng.integers(99), costs=costs) for i in range(4)]
    )
    for row in analysis.leaderboard:
        for score in ("score", "iqm_difference", "iqm_speedup", "improvement", "mean_rank"):
            estimate = getattr(row, score)
            if estimate is not None and estimate.low is not None and estimate.high is not None:
                interval = Interval(low=estimate.low, high=estimate.high, level=estimate.level)
                assert estimate.value in interval
