"""Speed-up and hyperparameters against size and length."""

from __future__ import annotations

from dataclasses import replace

import pytest
from suites_of_tables import made_task

from harness.analysis.search.results import Configuration, Ledger, VariantSearch
from harness.analysis.suite.hyperparameters import hyperparameter_scaling
from harness.analysis.suite.scaling import speedup_scaling
from harness.analysis.suite.task_data import TaskData
from harness.study.search_space import LogUniform

EFFECTS = {"adamw": 0.0, "muon": -0.05}
WIGGLE = (1.01, 0.99, 1.0, 1.005)


def ladder(sizes, *, lengths=(1e9,), missing: str = "") -> list[TaskData]:
    """Muon's speed-up is 1.6 at a million parameters and falls by 5 % with every doubling."""
    tasks, exponent = [], -0.0740006  # 2^-0.074 = 0.95
    for i, size in enumerate(sizes):
        for j, length in enumerate(lengths):
            name = f"s{i}l{j}"
            value = 1.6 * (size / 1e6) ** exponent * WIGGLE[(i + j) % 4]
            task = made_task(
                name,
                EFFECTS,
                of=9,
                seed=0,
                seeds=(0, 1, 2),
                size=size,
                tokens=length,
                speedups={} if name == missing else {"muon": value},
            )
            tasks.append(task)
    return tasks


def only(tasks, **more):
    (scaling,) = speedup_scaling(tasks, ["muon"], level=0.95, **more)
    return scaling


def test_the_factor_of_a_doubling_is_found_and_extrapolated_with_a_warning() -> None:
    scaling = only(ladder([1e6, 2e6, 4e6, 8e6]), larger={"size": 64e6})
    assert scaling.fit is not None
    doubled = scaling.fit.per_doubling["size"]
    assert doubled.low is not None
    assert doubled.high is not None
    assert doubled.low < 0.95 < doubled.high
    (beyond,) = scaling.fit.predictions
    assert (beyond.at, beyond.factor) == (64e6, 8.0)
    assert beyond.value.low is not None
    assert beyond.value.high is not None
    assert beyond.value.low < 1.6 * 0.95**6 < beyond.value.high
    assert beyond.value.high - beyond.value.low > doubled.high - doubled.low
    assert "Extrapolation, not a measurement" in beyond.sentence
    assert "8 times beyond the largest task" in beyond.sentence


def test_on_a_grid_size_and_length_have_a_slope_each() -> None:
    fit = only(ladder([1e6, 2e6, 4e6], lengths=(1e9, 2e9, 4e9))).fit
    assert fit is not None
    assert fit.per_doubling["size"].value == pytest.approx(0.95, abs=0.01)
    assert fit.per_doubling["tokens"].value == pytest.approx(1.0, abs=0.01)
    assert fit.degrees_of_freedom == 6
    assert [p.factor for p in fit.predictions] == [10.0, 10.0]


def test_two_sizes_are_no_line() -> None:
    scaling = only(ladder([1e6, 2e6], lengths=(1e9, 2e9)))
    assert scaling.fit is None
    assert scaling.why_not is not None
    assert "at least 3 distinct" in scaling.why_not
    nowhere = only(ladder([1e6, 2e6, 4e6], missing="")[:0])
    assert nowhere.why_not == "no speed-up is known"


def test_a_task_without_a_speed_up_is_named() -> None:
    scaling = only(ladder([1e6, 2e6, 4e6, 8e6], missing="s1l0"))
    assert len(scaling.points) == 3
    assert scaling.note == "no speed-up on s1l0: left out"


def test_a_bound_is_no_point_of_the_line() -> None:
    tasks = ladder([1e6, 2e6, 4e6, 8e6])
    bound = replace(tasks[3].speedups["horizons"]["muon"], kind="at most", high=0.92)
    tasks[3] = replace(tasks[3], speedups={"horizons": {"muon": bound}})
    scaling = only(tasks)
    assert [point.task for point in scaling.points] == ["s0l0", "s1l0", "s2l0"]
    assert scaling.note == "no speed-up on s3l0 (at most 0.92): left out"


def test_a_speed_up_beyond_the_baseline_s_runs_is_said_to_be_one() -> None:
    tasks = ladder([1e6, 2e6, 4e6])
    beyond = replace(tasks[2].speedups["horizons"]["muon"], extrapolated=True)
    tasks[2] = replace(tasks[2], speedups={"horizons": {"muon": beyond}})
    note = only(tasks).note
    assert note is not None
    assert note.startswith("on s2l0 it ends below the baseline's longest run")


def test_within_the_tasks_it_is_no_extrapolation() -> None:
    fit = only(ladder([1e6, 2e6, 4e6]), larger={"size": 3e6}).fit
    assert fit is not None
    assert fit.predictions[0].sentence.startswith("Interpolation")


def test_below_the_smallest_task_is_an_extrapolation_too() -> None:
    fit = only(ladder([1e6, 2e6, 4e6]), larger={"size": 1e5}).fit
    assert fit is not None
    sentence = fit.predictions[0].sentence
    assert sentence.startswith("Extrapolation, not a measurement")
    assert "10 times below the smallest task" in sentence


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        (
            (1e9, 2e9, 4e9),
            "active parameters (1 degree of freedom), with which training tokens grow",
        ),
        ((4e9, 2e9, 1e9), "(1 degree of freedom), with which training tokens shrink"),
        ((4e9, 1e9, 2e9), "; training tokens differ too, and these tasks cannot tell what is"),
        ((1e9, 1e9, 8e9), "; training tokens differ too, and these tasks cannot tell what is"),
        ((1e9, 1e9, 1e9), "for every doubling of active parameters (1 degree of freedom)"),
    ],
)
def test_what_the_other_axis_did_is_said_as_it_was(lengths, words) -> None:
    tasks = [
        replace(task, tokens=tokens)
        for task, tokens in zip(ladder([1e6, 2e6, 4e6]), lengths, strict=True)
    ]
    fit = only(tasks).fit
    assert fit is not None
    assert list(fit.per_doubling) == ["size"]
    assert words in fit.sentence
    assert ("training tokens" in fit.sentence) == (len(set(lengths)) > 1)


RATE = LogUniform(kind="loguniform", low=1e-4, high=1e-1)


def search(scores: dict[float, float | None], *, edges: tuple[str, ...] = ()) -> VariantSearch:
    """A search over one learning rate."""
    found = tuple(
        Configuration(
            index=index,
            round=0,
            point={"lr": rate},
            keys={0: f"k{index}"},
            outcome="completed" if score is not None else "diverged",
            losses={} if score is None else {0: score},
            score=score,
        )
        for index, (rate, score) in enumerate(scores.items())
    )
    best = min((c for c in found if c.score is not None), key=lambda c: c.score or 0.0)
    return VariantSearch(
        variant="adamw",
        space={"lr": RATE},
        configurations=found,
        chosen=best,
        sigma=None,
        edges=edges,
        finished=True,
        ledger=Ledger(configurations=len(found), training_runs=len(found), tokens=0, hours=0.0),
    )


def tuned(rates, *, sizes=(1e6, 4e6, 16e6)) -> list[TaskData]:
    """Each task tried all the rates; its own is best by 0.1 nats a factor of 2."""
    tried = sorted(rates)
    return [
        TaskData(
            name=f"s{i}",
            active_parameters=size,
            tokens=1e9,
            searches={
                "adamw": search(
                    {t: None if t > 4 * rate else 3.0 + abs(tried.index(t) - i) / 10 for t in tried}
                    if list(rates) == tried
                    else {t: 3.0 + 0.1 * (t != rate) for t in tried},
                    edges=("lr at the edge",) if i == 0 else (),
                )
            },
        )
        for i, (rate, size) in enumerate(zip(rates, sizes, strict=True))
    ]


def test_the_slope_of_the_tuned_rate_and_what_a_transfer_costs() -> None:
    (found,) = hyperparameter_scaling(tuned([0.01, 0.005, 0.0025]), ["adamw", "muon"], level=0.95)
    assert (found.variant, found.setting) == ("adamw", "lr")
    assert [point.value for point in found.points] == [0.01, 0.005, 0.0025]
    assert found.fit is not None
    assert found.fit.exponents["size"].value == pytest.approx(-0.5)
    assert found.not_tuned == ("s0",)
    assert len(found.transfers) == 6
    assert all(t.distance == 0.0 and t.loss == pytest.approx(0.1) for t in found.transfers)


def test_a_rate_that_diverges_elsewhere_has_no_loss_there() -> None:
    tasks = tuned([0.001, 0.01, 0.1])
    (found,) = hyperparameter_scaling(tasks, ["adamw"], level=0.95)
    diverged = next(t for t in found.transfers if (t.source, t.to) == ("s2", "s0"))
    assert diverged.loss is None
    other = next(t for t in found.transfers if (t.source, t.to) == ("s0", "s1"))
    assert other.loss == pytest.approx(0.1)


def test_the_nearest_tried_point_stands_for_one_that_was_not() -> None:
    a = TaskData(name="a", searches={"adamw": search({0.01: 3.0})})
    b = TaskData(name="b", searches={"adamw": search({0.001: 3.0, 0.02: 3.2, 0.0001: 3.5})})
    (found,) = hyperparameter_scaling([a, b], ["adamw"], level=0.95)
    there = next(t for t in found.transfers if t.source == "a")
    assert there.loss == pytest.approx(0.2)
    assert there.distance == pytest.approx(0.3010 / 3, abs=1e-3)
    assert found.fit is None
