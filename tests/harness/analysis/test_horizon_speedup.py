"""The speed-up in data, from one baseline at several lengths."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from scipy.optimize import brentq

from harness.analysis.horizon_speedup import horizon_speedups
from harness.analysis.stats.between_lengths import SpeedupBetween
from harness.analysis.stats.data_efficiency import DataEfficiency
from harness.analysis.study_analysis import analyse_study
from harness.analysis.study_results import load_results
from harness.errors import UserError
from harness.report.elements import Details, Paragraph, Table
from harness.report.html import write_html
from harness.report.sections import Material
from harness.report.sections import speedups as speedups_section
from harness.report.tables.measures import data_efficiency, write_efficiency
from harness.report.write import gather
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import load_plan
from harness.runs.snapshot import load_snapshot

Write = Callable[..., StudyFolder]
LENGTHS = (60, 120, 240, 480)
OWN = {"horizons": [30, 60, 240]}


def law(steps: float) -> float:
    return 2.0 + 4.0 * math.pow(steps, -0.3)


def worth_of(made_up: Any, effect: float) -> float:
    """How many times as much data the made-up baseline needs to be better by the effect."""
    target = made_up.law(made_up.steps) + effect
    return float(brentq(lambda s: made_up.law(s * made_up.steps) - target, 0.1, 10.0))


def write_lengths(made_up_study: Write, lengths: tuple[int, ...] = LENGTHS) -> list[StudyFolder]:
    """Studies whose AdamW follows a law and whose Muon is as good as 1.5 times as much data."""
    folders = []
    for steps in lengths:
        folder = made_up_study(name=f"steps-{steps}", steps=steps, every=steps, seeds=(0, 1, 2))
        for trial in load_plan(folder).trials:
            finished = folder.trial(trial.key)
            worth = 1.5 if trial.variant == "muon" else 1.0
            # The luck of a seed moves both variants alike.
            value = law(worth * steps) + 1e-4 * math.sin(trial.seed + steps)
            outcome = finished.outcome()
            assert outcome is not None
            finished.finish(outcome.model_copy(update={"validation_loss": value}))
        folders.append(folder)
    return folders


def test_a_variant_worth_half_as_much_data_again_is_found(made_up_study: Write) -> None:
    *others, last = write_lengths(made_up_study)
    (found,) = horizon_speedups(
        analyse_study(others[1]), [load_snapshot(f) for f in (others[0], others[2], last)]
    )
    assert isinstance(found.result, DataEfficiency)
    assert found.lengths == LENGTHS
    assert found.result.speedup == pytest.approx(1.5, rel=0.01)
    assert found.result.low is not None
    assert found.result.high is not None
    assert found.result.low < 1.5 < found.result.high
    assert not found.result.extrapolated
    (beyond,) = horizon_speedups(analyse_study(last), [load_snapshot(f) for f in others])
    assert isinstance(beyond.result, DataEfficiency)
    assert beyond.result.extrapolated, "its loss is below that of the longest baseline"


def test_the_page_shows_it_when_asked(made_up_study: Write) -> None:
    *others, last = write_lengths(made_up_study)
    text = write_html(gather(analyse_study(last), horizons=others, draw=lambda view: {}))
    assert ">Speed-up in data<" in text
    assert "extrapolated" in text
    assert "Speed-up in data" not in write_html(gather(analyse_study(last), draw=lambda view: {}))


def test_what_is_no_length_of_one_baseline_is_refused(made_up_study: Write) -> None:
    first, second, third, last = (analyse_study(f) for f in write_lengths(made_up_study))
    with pytest.raises(UserError, match="3 length"):
        horizon_speedups(last, [first, second])
    stranger = load_snapshot(
        made_up_study(
            name="stranger",
            steps=30,
            every=30,
            variants={"sgd": {"kind": "adamw", "lr": 0.1}, "x": {"kind": "adamw", "lr": 0.2}},
        )
    )
    with pytest.raises(UserError, match="there is no variant 'adamw'"):
        horizon_speedups(last, [first, second, third, stranger])


def test_the_studys_own_horizons_are_enough(made_up_study: Write, made_up_class: Any) -> None:
    results = analyse_study(made_up_study(analysis=OWN))
    (found,) = horizon_speedups(results)
    assert found.lengths == (30, 60, 120, 240)
    assert isinstance(found.result, DataEfficiency)
    assert found.result.speedup == pytest.approx(worth_of(made_up_class(), -0.05), rel=0.05)
    assert found.result.low is not None
    assert found.result.low > 1.0
    tokens_per_step = results.settings.tokens_per_step
    assert found.result.law.data_for(made_up_class().law(120)) == pytest.approx(
        120 * tokens_per_step, rel=0.05
    ), "the law is one of tokens"


def test_there_is_none_without_horizons_and_none_before_an_analysis(made_up_study: Write) -> None:
    assert horizon_speedups(analyse_study(made_up_study(name="plain"))) == ()
    assert horizon_speedups(load_results(made_up_study(analysis=OWN))) == ()


def test_other_studies_join_the_studys_own_horizons(made_up_study: Write) -> None:
    results = analyse_study(made_up_study(analysis=OWN, name="own"))
    other = made_up_study(name="longer", steps=480, every=120)
    (found,) = horizon_speedups(results, [load_snapshot(other)])
    assert found.lengths == (30, 60, 120, 240, 480)
    again = made_up_study(name="again", steps=240, every=120, effects={"adamw": 9.0})
    assert horizon_speedups(results, [load_snapshot(again)]) == horizon_speedups(results), (
        "the study's own horizon comes before another study of that length"
    )


def test_intervals_of_several_variants_hold_together(made_up_study: Write) -> None:
    variants = {
        "adamw": {"kind": "adamw", "lr": 0.004},
        **{f"muon-{lr}": {"kind": "muon", "lr": lr} for lr in (0.01, 0.02, 0.03)},
    }
    effects = dict.fromkeys(list(variants)[1:], -0.05)
    results = analyse_study(made_up_study(variants=variants, effects=effects, analysis=OWN))
    found = horizon_speedups(results)
    assert [item.result and item.result.level for item in found] == [1.0 - 0.05 / 3] * 3
    note = data_efficiency(results, found).note
    assert "hold at 95 %, all 3 together" in note
    assert "whole schedules of 30, 60, 120 and 240 steps" in note


def test_a_lost_run_gives_a_reason_and_never_a_mean_of_survivors(made_up_study: Write) -> None:
    lost = {("adamw at 60", 1): "out of luck"}
    (found,) = horizon_speedups(analyse_study(made_up_study(analysis=OWN, failed=lost)))
    assert found.result is None
    assert found.why_not == "adamw at 60 steps has no final loss for seed(s) [1]"
    folder = made_up_study(analysis=OWN, diverged={("muon", 2): 60}, name="diverged")
    (found,) = horizon_speedups(analyse_study(folder))
    assert (found.result, found.why_not) == (None, "no final loss for seed(s) [2]")


def test_with_looks_the_seeds_are_those_of_the_comparison(made_up_study: Write) -> None:
    later = {("muon", seed) for seed in (3, 4)} | {("adamw", 4)}
    later |= {(f"adamw at {steps}", seed) for steps in OWN["horizons"] for seed in (3, 4)}
    folder = made_up_study(unfinished=frozenset(later), analysis={"looks": [3, 5], **OWN})
    (found,) = horizon_speedups(analyse_study(folder))
    assert found.result is not None
    assert found.result.seeds == 3


def test_where_no_law_fits_it_is_read_between_the_lengths(made_up_study: Write) -> None:
    folder = made_up_study(analysis=OWN)
    concave = {30: 3.60, 60: 3.55, None: 3.45, 240: 3.15}
    for trial in load_plan(folder).trials:
        finished = folder.trial(trial.key)
        # Muon at 120 steps is as good as AdamW at 180.
        loss = 3.15 + 0.3 * math.log2(240 / 180) if trial.variant == "muon" else None
        value = (loss or concave[trial.steps]) + 1e-3 * math.sin(trial.seed + (trial.steps or 0))
        outcome = finished.outcome()
        assert outcome is not None
        finished.finish(outcome.model_copy(update={"validation_loss": value}))
    results = analyse_study(folder)
    (found,) = horizon_speedups(results)
    assert isinstance(found.result, SpeedupBetween)
    assert found.result.speedup == pytest.approx(1.5, rel=1e-3)
    (row,) = data_efficiency(results, [found]).rows
    assert row[0] == "muon"
    assert row[1].startswith("1.50")
    assert row[3].startswith("no law fits: read between the lengths")


def test_on_the_page_the_crossing_stands_folded_behind_the_speedup(made_up_study: Write) -> None:
    results = analyse_study(made_up_study(analysis={"target": 3.5, **OWN}))
    material = Material(study=results, figures={}, horizons=horizon_speedups(results))
    first, *crossings = speedups_section(material)
    assert isinstance(first, Table)
    assert first.title == "Speed-up in data"
    assert [block.title for block in crossings if isinstance(block, Details)] == [
        "When the final loss of adamw was first seen: not a speed-up",
        "When a loss of 3.5 was first seen: not a speed-up",
    ]


def test_without_horizons_the_page_says_how_a_speedup_is_measured(made_up_study: Write) -> None:
    results = analyse_study(made_up_study())
    first, crossing = speedups_section(Material(study=results, figures={}))
    assert isinstance(first, Paragraph)
    assert "`horizons = [30, 60, 240]`" in first.text
    assert isinstance(crossing, Details)


@pytest.mark.parametrize(
    ("speedup", "low", "high", "written"),
    [
        (1.344, 1.2, 1.511, "1.34 [1.20, 1.51]"),
        (1.344, 1.2, None, "1.34, at least 1.20"),
        (1.344, None, 1.511, "1.34, at most 1.51"),
        (1.344, None, None, "1.34"),
        (None, 2.0, None, "at least 2.00"),
        (None, None, None, "–"),
    ],
)
def test_a_bound_is_never_written_as_an_estimate(
    speedup: float | None, low: float | None, high: float | None, written: str
) -> None:
    found = SpeedupBetween(speedup=speedup, low=low, high=high, level=0.95, seeds=5)
    assert write_efficiency(found) == written
