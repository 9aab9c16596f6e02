"""A study that is added to: what was trained stays, and the verdicts say what became of alpha."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import DATA_SHA256, MadeUpSearch, MadeUpStudy
from rich.console import Console
from scipy import stats

from harness.analysis.growth import ADDED_SEEDS, EXPLORATORY, growth_sentences
from harness.analysis.results import read_analysis
from harness.analysis.study_analysis import analyse_study
from harness.analysis.study_results import StudyResults
from harness.errors import UserError
from harness.report.html import write_html
from harness.report.latex import results_tex
from harness.report.terminal.study import render_study
from harness.report.write import gather
from harness.runs.folder import StudyFolder
from harness.runs.plan_changes import Addition
from harness.runs.plan_file import freeze, load_plan
from harness.study.plan import expand, make_plan

SMALL: dict[str, Any] = {"seeds": (0, 1, 2, 3), "every": 60}
SLOW = {"muon-slow": {"kind": "muon", "lr": 0.005, "aux_lr": 0.004}}


def ask(folder: StudyFolder, made: MadeUpStudy) -> Addition | None:
    """What `optbench run` does with a changed study file before it trains."""
    source = folder.path / "study.toml"
    return freeze(folder, make_plan(made.study(), DATA_SHA256), source=source)


def grow(folder: StudyFolder, made: MadeUpStudy) -> Addition | None:
    """Adds, and pretends to train what has no outcome."""
    addition = ask(folder, made)
    plan, specs = load_plan(folder), expand(made.study(), DATA_SHA256)
    for trial in plan.trials:
        if folder.trial(trial.key).outcome() is None:
            made.train(folder, plan, trial, specs[trial.key])
    return addition


def shown(results: StudyResults) -> str:
    console = Console(width=400, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(render_study(results))
    return capture.get()


def page_of(results: StudyResults) -> str:
    return write_html(gather(results, draw=lambda view: {}))


def test_a_seed_added_after_outcomes_marks_every_verdict(tmp_path: Path) -> None:
    made = MadeUpStudy(**SMALL, analysis={"target": 3.5})
    folder = made.write(tmp_path)
    kept = {p: p.stat().st_mtime_ns for p in folder.path.glob("trials/*/*")}
    addition = grow(folder, replace(made, seeds=(0, 1, 2, 3, 4)))
    assert addition is not None
    assert (addition.outcomes, addition.measured) == (8, 8)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept, "nothing is trained again"

    results = analyse_study(folder)
    (comparison,) = results.comparisons
    assert comparison.n == 5
    assert all(item.exploratory for item in (*results.comparisons, *results.targets))
    assert comparison.sentence.endswith(f"({EXPLORATORY})")
    assert read_analysis(folder.analysis_path) == results.analysis
    told = f"Added to the plan on {addition.when}, when 8 training runs had ended: confirmation "
    for text in (page_of(results), shown(results)):
        assert EXPLORATORY in text
        assert f"{told}seed 4." in text
        assert text.count(ADDED_SEEDS) == 1
    assert "better by" not in results_tex(results)
    assert "exploratory" in results_tex(results)


def test_a_seed_added_before_any_outcome_is_noted_and_costs_nothing(tmp_path: Path) -> None:
    made = MadeUpStudy(**SMALL)
    folder = StudyFolder(tmp_path / made.name)
    source = tmp_path / "source.toml"
    source.write_text("")
    freeze(folder, make_plan(made.study(), DATA_SHA256), source=source)
    addition = grow(folder, replace(made, seeds=(0, 1, 2, 3, 4)))
    assert addition is not None
    results = analyse_study(folder)
    assert not any(item.exploratory for item in results.comparisons)
    page = page_of(results)
    assert "before any training run had ended: confirmation seed 4." in page
    assert ADDED_SEEDS not in page
    assert EXPLORATORY not in page + shown(results)


def test_a_variant_added_after_outcomes_widens_every_interval_and_says_so(tmp_path: Path) -> None:
    made = MadeUpStudy(**SMALL)
    folder = made.write(tmp_path)
    before = analyse_study(folder).comparison("muon")
    larger = replace(made, variants={**made.variants, **SLOW})
    grow(folder, larger)
    results = analyse_study(folder)
    after = results.comparison("muon")
    assert before is not None
    assert before.interval is not None
    assert after is not None
    assert after.interval is not None
    assert after.mean_difference == before.mean_difference
    assert (before.interval.level, after.interval.level) == (0.95, 0.975)
    assert after.interval.low < before.interval.low < before.interval.high < after.interval.high
    assert not after.exploratory
    for text in (page_of(results), shown(results)):
        assert "2 comparisons share alpha now instead of 1, so every interval is wider" in text
        assert "up to 0.075 instead of 0.05" in text


def test_the_bound_of_a_family_that_grew_holds_in_simulation() -> None:
    """A/A studies that stop at a verdict and otherwise add variants to the same baseline."""
    rng = np.random.default_rng(5)
    studies, first, last = 40_000, 1, 2
    runs = rng.standard_normal((studies, 1 + last, 8))
    p = stats.ttest_1samp(runs[:, 1:] - runs[:, :1], 0.0, axis=2).pvalue
    early = (p[:, :first] < 0.05 / first).any(axis=1)
    rate = float((early | (p < 0.05 / last).any(axis=1)).mean())
    assert 0.065 < rate < 0.05 * (1 + (last - first) / last)


def test_several_additions_are_told_together() -> None:
    from harness.study.additions import Additions

    def added(count: int, *names: str) -> Addition:
        return Addition(
            when="2026-01-01", from_sha256="0", to_sha256="1", added=Additions(variants=names),
            comparisons=count, outcomes=4, measured=4,
        )  # fmt: skip

    settings = MadeUpStudy().study().analysis
    larger = [added(0, "a"), added(1, "b"), added(2, "c", "d")]
    *_, family, bound = growth_sentences(larger, settings)
    assert "4 comparisons share alpha now instead of 1" in family
    assert "up to 0.1 instead of 0.05" in bound
    seeds = added(1).model_copy(update={"added": Additions(seeds=(9,))})
    *_, warning, family = growth_sentences([*larger, seeds], settings)
    assert warning == ADDED_SEEDS
    assert "share alpha" in family, "and no bound is known"
    assert len(growth_sentences([added(0, "a")], settings)) == 1, "there was no verdict before"


def test_the_methods_do_not_say_that_all_was_fixed_before_the_first_run(tmp_path: Path) -> None:
    made = MadeUpStudy(**SMALL)
    folder = made.write(tmp_path)
    grow(folder, replace(made, seeds=(0, 1, 2, 3, 4)))
    assert "added when first results were there: confirmation seed 4" in page_of(
        analyse_study(folder)
    )


SEARCH: dict[str, Any] = {
    "seeds": (0, 1, 2), "every": 60, "tuning": {"trials": 2}, "tuning_seeds": (100,),
}  # fmt: skip


def with_another(made: MadeUpSearch) -> MadeUpSearch:
    return replace(
        made,
        variants={**made.variants, **SLOW},
        spaces={**made.spaces, "muon-slow": made.spaces["muon"]},
    )


def test_a_searched_study_gets_more_confirmation_seeds_and_searches_no_more(
    tmp_path: Path,
) -> None:
    made = MadeUpSearch(**SEARCH)
    folder = made.write(tmp_path)
    before = load_plan(folder)
    addition = ask(folder, replace(made, seeds=(0, 1, 2, 3)))
    assert addition is not None
    assert (addition.outcomes, addition.measured) == (len(before.distinct_keys), 6)
    after = load_plan(folder)
    assert set(before.trials) < set(after.trials)
    new = set(after.trials) - set(before.trials)
    assert {(row.variant, row.phase, row.seed) for row in new} == {
        ("adamw", "confirmation", 3),
        ("muon", "confirmation", 3),
    }
    assert "4 of them of the search" in growth_sentences([addition], made.study().analysis)[0]


def test_outcomes_of_the_search_do_not_spoil_seeds_that_measure(tmp_path: Path) -> None:
    made = MadeUpSearch(**SEARCH, unchosen=True)
    folder = made.write(tmp_path)
    addition = ask(folder, replace(made, seeds=(0, 1, 2, 3)))
    assert addition is not None
    assert (addition.outcomes, addition.measured) == (4, 0)


def test_a_variant_joins_a_search_in_its_first_round_only(tmp_path: Path) -> None:
    made = MadeUpSearch(**SEARCH, unchosen=True)
    folder = made.write(tmp_path)
    addition = ask(folder, with_another(made))
    assert addition is not None
    assert addition.added.variants == ("muon-slow",)

    made = MadeUpSearch(**SEARCH, name="chosen")
    folder = made.write(tmp_path)
    before = folder.plan_path.read_bytes()
    plan = make_plan(with_another(made).study(), DATA_SHA256)
    for why in (None, "all the same"):
        with pytest.raises(UserError, match=r"muon-slow cannot join.*Start a new study"):
            freeze(folder, plan, source=folder.path / "study.toml", amend=why)
    assert folder.plan_path.read_bytes() == before


def test_a_tuning_seed_more_is_another_search(tmp_path: Path) -> None:
    made = MadeUpSearch(**SEARCH, unchosen=True)
    folder = made.write(tmp_path)
    with pytest.raises(UserError, match=r"Changed: seeds\.tuning"):
        ask(folder, replace(made, tuning_seeds=(100, 101)))
