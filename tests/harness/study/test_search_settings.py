"""`[tuning]` and the spaces: equal budgets, refusals, the laws of a dimension."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from harness.errors import UserError
from harness.study.load import load_study
from harness.study.plan import make_plan
from harness.study.search_space import Dimension, Grid, Int, LogUniform, Uniform
from tune.search.samplers import draw_points

DIMENSION: TypeAdapter[Any] = TypeAdapter(Dimension)
MUON_LR = 'space.lr = { kind = "loguniform", low = 0.002, high = 0.2 }'


@st.composite
def intervals(draw: st.DrawFn) -> LogUniform | Uniform | Int:
    low = draw(st.integers(1, 1000))
    high = low + draw(st.integers(1, 1000))
    kind = draw(st.sampled_from(["loguniform", "uniform", "int"]))
    scale = 1 if kind == "int" else 1000
    dimension = DIMENSION.validate_python({"kind": kind, "low": low / scale, "high": high / scale})
    assert isinstance(dimension, LogUniform | Uniform | Int)
    return dimension


@settings(max_examples=100, deadline=None)
@given(dimension=intervals(), share=st.floats(0.0, 1.0))
def test_a_value_lies_in_its_interval_where_its_share_says(
    dimension: LogUniform | Uniform | Int, share: float
) -> None:
    value = dimension.at(share)
    assert dimension.low * (1 - 1e-12) <= value <= dimension.high * (1 + 1e-12)
    exact = 1.0 / (dimension.high - dimension.low) if isinstance(dimension, Int) else 1e-9
    assert dimension.share_of(value) == pytest.approx(share, abs=exact)


@settings(max_examples=50, deadline=None)
@given(dimension=intervals(), border=st.sampled_from(["low", "high"]))
def test_a_widened_interval_holds_the_old_one_and_moves_one_border_only(
    dimension: LogUniform | Uniform | Int, border: Any
) -> None:
    wider = dimension.widened(border)
    assert wider.low <= dimension.low
    assert wider.high >= dimension.high
    assert (wider.low < dimension.low) == (border == "low")
    assert (wider.high > dimension.high) == (border == "high")


@pytest.mark.parametrize("searcher", ["random", "quasi_random"])
def test_the_points_are_reproducible_and_the_first_ones_do_not_depend_on_the_seed_of_others(
    searcher: str,
) -> None:
    space = {
        "lr": LogUniform(kind="loguniform", low=0.001, high=1.0),
        "num_steps": Int(kind="int", low=3, high=9),
    }
    points = draw_points(space, searcher=searcher, count=6, seed=1)
    assert points == draw_points(space, searcher=searcher, count=6, seed=1)
    assert points != draw_points(space, searcher=searcher, count=6, seed=2)
    assert len({str(point) for point in points}) == 6


def test_a_sobol_sequence_puts_one_of_eight_points_in_every_eighth() -> None:
    space = {"lr": LogUniform(kind="loguniform", low=0.001, high=1.0)}
    points = draw_points(space, searcher="quasi_random", count=8, seed=0)
    shares = [space["lr"].share_of(float(point["lr"])) for point in points]
    assert sorted(int(8 * share) for share in shares) == list(range(8))


def test_a_grid_search_takes_every_combination_once() -> None:
    space = {
        "lr": Grid(kind="grid", values=(0.1, 0.2, 0.4)),
        "num_steps": Grid(kind="grid", values=(4, 8)),
    }
    points = draw_points(space, searcher="grid", count=6, seed=0)
    assert {(point["lr"], point["num_steps"]) for point in points} == {
        (lr, steps) for lr in (0.1, 0.2, 0.4) for steps in (4, 8)
    }


def refuse(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_study(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("tuning = [100]", "", "needs at least one seed that chooses"),
        ("trials = 8", 'trials = 8\nscope = "x"', "unknown key"),
        (MUON_LR, "", "space.lrr"),
        ("low = 0.002, high", "lo = 0.002, high", "did you mean `low`?"),
        ("grace_fraction = 0.5", "grace_fraction = 0.25", "greater than or equal to 0.5"),
        ("reduction_factor = 2.0", "reduction_factor = 4.0", "less than or equal to 2"),
        ("grace_fraction = 0.5", 'scope = "study"', "falls faster early"),
        ("grace_fraction = 0.5", 'phase = "confirmation"', "no measurement"),
        ("tuning = [100]", "tuning = [100, 101]", "compares trials of one seed"),
        ("evaluation_every = 2", "evaluation_every = 6", "nothing could be stopped"),
        ("low = 0.002, high = 0.2", "low = 0.2, high = 0.002", "must be below high"),
        ("low = 0.002, high = 0.2", "low = 0.002, high = -1.0", "greater than 0"),
        ('searcher = "tpe"', 'searcher = "grid"', "list their values"),
        ('searcher = "tpe"', 'searcher = "grid"\nextend = true', "equal budgets"),
        ('searcher = "tpe"', 'searcher = "bohb"', "tuning.searcher"),
    ],
)
def test_an_unfair_or_impossible_search_is_refused(
    searched_file: Path, old: str, new: str, sentence: str
) -> None:
    text = searched_file.read_text()
    if old == MUON_LR:
        new = MUON_LR.replace("space.lr", "space.lrr")
    assert old in text
    searched_file.write_text(text.replace(old, new))
    assert sentence in refuse(searched_file)


def test_tuning_one_variant_and_not_the_other_is_refused(searched_file: Path) -> None:
    text = searched_file.read_text()
    lines = [line for line in text.splitlines() if "aux_lr = { kind" not in line]
    searched_file.write_text("\n".join(line for line in lines if line != MUON_LR))
    message = refuse(searched_file)
    assert "variants.muon.space: missing" in message
    assert "untuned opponent" in message


def test_a_space_that_nothing_searches_is_refused(edited_study: Callable[..., Path]) -> None:
    path = edited_study(("lr = 0.02", "lr = 0.02"), ("[analysis]", f"{MUON_LR}\n[analysis]"))
    assert "nothing searches it" in refuse(path)


def test_a_border_that_the_optimizer_refuses_is_named(searched_file: Path) -> None:
    wrong = 'space.momentum = { kind = "uniform", low = 0.5, high = 1.5 }'
    searched_file.write_text(searched_file.read_text().replace(MUON_LR, wrong))
    assert "space.momentum: the optimizer refuses 1.5" in refuse(searched_file)


def test_a_grid_that_is_not_the_budget_is_refused(searched_file: Path) -> None:
    text = searched_file.read_text()
    for line in text.splitlines():
        if line.startswith("space."):
            name = line.split(" = ")[0]
            text = text.replace(line, f'{name} = {{ kind = "grid", values = [0.01, 0.02] }}')
    searched_file.write_text(text.replace('searcher = "tpe"', 'searcher = "grid"'))
    assert "its grid has 4 points and tuning.trials is 8" in refuse(searched_file)


def test_two_names_for_one_configuration_are_noticed_and_trained_once() -> None:
    """Of the 19 published variants two are the same."""
    study = load_study(Path(__file__).parents[3] / "studies" / "muon-ablation.toml")
    plan = make_plan(study, "0" * 64)
    assert len(study.variants) == 19
    assert plan.twins() == [("momentum-0.90", "optimal")]
    assert len(plan.distinct_keys) == 18 * len(study.seeds.confirmation)


def test_an_untuned_variant_has_no_space_and_is_not_alone(searched_file: Path) -> None:
    text = searched_file.read_text()
    searched_file.write_text(text.replace('name = "muon"', 'name = "muon"\ntuned = false'))
    assert "nothing searches it with `tuned = false`" in refuse(searched_file)
    lines = [line for line in text.splitlines() if not line.startswith("space.")]
    text = "\n".join(lines).replace("optimizer = {", "tuned = false\noptimizer = {")
    searched_file.write_text(text)
    assert "leave [tuning] out, or tune one of them" in refuse(searched_file)
