"""What a plan says before anything is trained: power over seeds, looks, costs."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from harness.analysis.plan_summary import summarise_plan
from harness.analysis.power_curve import Rule, power_curve
from harness.analysis.proposed_looks import judge_looks, propose_looks
from harness.analysis.stats.mean_tests import known_noise_z, paired_t, welch_t
from harness.analysis.stats.power import capability
from harness.analysis.stats.verdict import decide
from harness.errors import UserError
from harness.report.figures.power import save_figure
from harness.report.terminal.plan import render_plan
from harness.runs.folder import StudyFolder
from harness.runs.resolve import resolve
from harness.study.load import load_study
from harness.study.plan import make_plan
from harness.study.settings import AnalysisSettings

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "how-to" / "choose-seeds-margin-and-looks.md"
PAIRED = Rule(comparisons=1, alpha=0.05, power=0.8, design="paired")
RULES = {
    "paired": PAIRED,
    "unpaired": replace(PAIRED, design="unpaired"),
    "z": replace(PAIRED, sigma=0.01, known_noise=True),
}
SETTINGS = AnalysisSettings(baseline="adamw")


@pytest.fixture
def summarise(study_file: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The summary of the tiny study with some keys changed, in a folder of its own."""

    def call(*overrides: str, sigma: float | None = None) -> dict[str, Any]:
        study = load_study(study_file, overrides)
        plan = make_plan(study, "0" * 64)
        return summarise_plan(study, plan, StudyFolder(tmp_path / "runs" / "tiny"), sigma=sigma)

    return call


Summarise = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("name", RULES)
def test_the_curve_foretells_what_the_verdicts_will_be(name: str) -> None:
    """Studies are drawn and judged one by one, by the code that judges a study."""
    rule = replace(RULES[name], comparisons=3, sigma=1.0, margin=2.5)
    n, rng = 6, np.random.default_rng(5)
    tests = {
        "paired": paired_t,
        "unpaired": welch_t,
        "z": lambda x, y: known_noise_z(x, y, sigma=1.0),
    }

    def share(difference: float, *words: str) -> float:
        found = 0
        for x, y in rng.normal(size=(1_000, 2, n)):
            test = tests[name](x - difference, y)
            decision = decide(test, share=rule.share, alpha=rule.alpha, margin=rule.margin)
            found += decision.verdict in words
        return found / 1_000

    better = share(2.5, "better", "better by the margin")
    assert rule.finds(2.5, seeds=n) == pytest.approx(better, abs=0.045)
    assert rule.shows_equivalence(2.5, seeds=n) == pytest.approx(
        share(0.0, "equivalent"), abs=0.045
    )


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_detectable_difference_is_found_with_the_power(rule: Rule) -> None:
    for seeds in (3, 8):
        assert rule.finds(rule.detectable(seeds), seeds=seeds) == pytest.approx(0.8, abs=1e-4)


def test_the_curve_goes_from_3_seeds_beyond_the_plan_and_agrees_with_the_capability() -> None:
    curve = power_curve(replace(PAIRED, comparisons=18, sigma=0.01), planned=5)
    assert [point.seeds for point in curve.points] == list(range(3, 21))
    can = capability(5, comparisons=18, sigma=0.01)
    assert curve.planned_point.detectable_nats == pytest.approx(can.detectable_difference)
    assert power_curve(PAIRED, planned=25).points[-1].seeds == 25
    found = [point.finds_one_sigma for point in curve.points]
    assert found == sorted(found)


def test_many_comparisons_find_less_and_show_less_equivalence() -> None:
    one, many = PAIRED, replace(PAIRED, comparisons=18)
    assert many.detectable(8) > one.detectable(8)
    assert many.shows_equivalence(2.0, seeds=8) < one.shows_equivalence(2.0, seeds=8)


def test_the_seeds_that_show_the_margin_are_the_first_with_the_power() -> None:
    curve = power_curve(replace(PAIRED, sigma=0.01, margin=0.02), planned=5)
    enough = curve.seeds_that_show_equivalence()
    assert enough is not None
    assert PAIRED.shows_equivalence(2.0, seeds=enough) >= 0.8
    assert PAIRED.shows_equivalence(2.0, seeds=enough - 1) < 0.8
    narrow = power_curve(replace(PAIRED, sigma=0.01, margin=0.001), planned=5)
    assert narrow.seeds_that_find_the_margin() is None


def test_proposed_looks_can_be_declared() -> None:
    assert propose_looks(10) == (4, 7, 10)
    for seeds in range(3, 60):
        looks = propose_looks(seeds)
        assert AnalysisSettings(baseline="adamw", looks=looks).looks[-1] == seeds
    assert propose_looks(3) == (3,)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_one_look_at_the_end_costs_and_saves_nothing(rule: Rule) -> None:
    found = judge_looks((8,), rule, _settings(rule))
    assert found.power == pytest.approx(0.8, abs=0.01)
    assert found.expected_seeds == 8


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_looks_save_seeds_and_cost_a_little_power(rule: Rule) -> None:
    found = judge_looks((4, 7, 10), rule, _settings(rule))
    assert 0.75 < found.power < 0.81
    assert 4 <= found.expected_seeds_at_twice < found.expected_seeds < 10


def _settings(rule: Rule) -> AnalysisSettings:
    return SETTINGS.model_copy(update={"sigma": rule.sigma})


def test_a_plan_without_noise_speaks_in_sigmas(summarise: Summarise) -> None:
    summary = summarise("analysis.margin_nats=0.02")
    assert summary["sigma"] is None
    assert {point["detectable_nats"] for point in summary["power_curve"]["points"]} == {None}
    assert "Give --sigma" in summary["can_show"][-1]
    json.dumps(summary, allow_nan=False)


def test_a_plan_with_noise_says_whether_the_margin_can_be_shown(summarise: Summarise) -> None:
    summary = summarise("analysis.margin_nats=0.02", sigma=0.01)
    point = summary["power_curve"]["points"][0]
    assert point["finds_margin"] == pytest.approx(PAIRED.finds(2.0, seeds=3))
    assert point["shows_equivalence"] == pytest.approx(PAIRED.shows_equivalence(2.0, seeds=3))
    assert "0.02 nats" in summary["can_show"][-1]


def test_a_stated_sigma_is_judged_by_z_and_cannot_be_contradicted(summarise: Summarise) -> None:
    summary = summarise("analysis.sigma=0.01")
    assert summary["sigma_source"] == "analysis.sigma"
    by_z = replace(PAIRED, sigma=0.01, known_noise=True)
    point = summary["power_curve"]["points"][0]
    assert point["detectable_in_sigmas"] == pytest.approx(by_z.detectable(3))
    assert any("judged by z" in sentence for sentence in summary["can_show"])
    with pytest.raises(UserError, match="contradicts"):
        summarise("analysis.sigma=0.01", sigma=0.02)
    with pytest.raises(UserError, match="positive"):
        summarise(sigma=0.0)


def test_the_noise_is_that_of_finished_trials_of_this_length(
    made_up_study: Callable[..., StudyFolder],
) -> None:
    from harness.runs.plan_file import load_plan
    from harness.runs.snapshot import load_snapshot

    folder = made_up_study(analysis={"horizons": [60, 85, 170]})
    snapshot = load_snapshot(folder)
    plan = load_plan(folder)
    summary = summarise_plan(snapshot.settings, plan, folder, sigma=None)
    losses = [list(snapshot.losses(variant).values()) for variant in ("adamw", "muon")]
    pooled = np.sqrt(np.mean([np.var(values, ddof=1) for values in losses]))
    assert summary["sigma"] == pytest.approx(pooled)
    assert summary["estimated_time_s"] == 0.0


def test_the_noise_of_a_study_that_searched_is_that_of_its_confirmation(
    made_up_search: Callable[..., StudyFolder],
) -> None:
    from harness.runs.snapshot import load_snapshot

    folder = made_up_search()
    snapshot = load_snapshot(folder)
    plan = make_plan(snapshot.settings, snapshot.plan.data_sha256)
    summary = summarise_plan(snapshot.settings, plan, folder, sigma=None)
    losses = [list(snapshot.losses(variant).values()) for variant in snapshot.variants]
    pooled = np.sqrt(np.mean([np.var(values, ddof=1) for values in losses]))
    assert summary["sigma"] == pytest.approx(pooled)


def test_the_time_that_is_left_counts_the_tokens_of_what_is_left(
    made_up_study: Callable[..., StudyFolder],
) -> None:
    from harness.runs.plan_file import load_plan
    from harness.runs.snapshot import load_snapshot

    lengths = {"horizons": [60, 85, 240]}
    folder = made_up_study(
        analysis=lengths, unfinished=frozenset(("adamw at 240", seed) for seed in range(5))
    )
    study = load_snapshot(folder).settings
    plan = load_plan(folder)
    finished = [o for key in plan.distinct_keys if (o := folder.trial(key).outcome()) is not None]
    seconds = sum(outcome.wall_time_s or 0.0 for outcome in finished)
    steps = 5 * (120 + 120 + 60 + 85)
    summary = summarise_plan(study, plan, folder, sigma=None)
    assert summary["estimated_time_s"] == pytest.approx(5 * 240 * seconds / steps)


def test_the_horizons_of_the_baseline_cost_runs_and_tokens(summarise: Summarise) -> None:
    plain, longer = summarise(), summarise("analysis.horizons=[3, 4, 9]")
    assert plain["horizons"] is None
    assert longer["horizons"]["training_runs"] == 9
    assert longer["training_runs"] == plain["training_runs"] + 9
    assert longer["tokens"] - plain["tokens"] == (3 + 4 + 9) * 3 * 8 * 32
    assert "adamw at 3, 4, 9 steps too" in _shown(longer)


def test_looks_are_proposed_as_a_line_that_can_be_pasted(summarise: Summarise) -> None:
    ten = f"seeds.confirmation={list(range(10))}"
    summary = summarise(ten)
    assert summary["look_plan"]["line"] == "looks = [4, 7, 10]"
    text = _shown(summary)
    assert "    looks = [4, 7, 10]" in text
    assert "0.09 instead of 0.05" in " ".join(text.split())
    declared = summarise(ten, "analysis.looks=[4, 7, 10]")
    assert declared["look_plan"]["declared"]
    assert declared["look_plan"]["power"] == summary["look_plan"]["power"]
    assert "    looks =" not in _shown(declared)


def test_three_seeds_leave_no_room_for_looks(summarise: Summarise) -> None:
    summary = summarise()
    assert summary["look_plan"] is None
    assert "no room for an earlier look" in _shown(summary)


def test_alpha_is_shared_by_the_comparisons(made_up_class: Any, tmp_path: Path) -> None:
    names = ("adamw", "slow", "fast", "faster")
    variants = {name: {"kind": "adamw", "lr": 0.001 + 0.001 * i} for i, name in enumerate(names)}
    study = made_up_class(variants=variants).study()
    plan = make_plan(study, "0" * 64)
    summary = summarise_plan(study, plan, StudyFolder(tmp_path / "none"), sigma=None)
    assert summary["comparisons"] == 3
    found = summary["power_curve"]["points"][2]["detectable_in_sigmas"]
    assert found == pytest.approx(capability(5, comparisons=3).detectable_in_sigmas)
    assert "shared by 3 comparisons: each is read from an interval at 98.33 %" in " ".join(
        _shown(summary).split()
    )


@pytest.mark.parametrize("sigma", [None, 0.01])
def test_the_plan_fits_a_terminal_of_80_columns(summarise: Summarise, sigma: float | None) -> None:
    text = _shown(summarise("analysis.margin_nats=0.02", sigma=sigma))
    assert max(map(len, text.splitlines())) <= 80
    assert "▸ 3" in text
    assert "●" in text


def test_a_study_of_one_variant_has_no_power_of_a_comparison(
    edited_study: Callable[..., Path], tmp_path: Path
) -> None:
    muon = '[[variants]]\nname = "muon"\noptimizer = { kind = "muon", lr = 0.02, aux_lr = 0.004, '
    muon += 'ns_dtype = "fp32" }\n'
    study = load_study(edited_study((muon, "")), ["analysis.target=3.0"])
    plan = make_plan(study, "0" * 64)
    summary = summarise_plan(study, plan, StudyFolder(tmp_path / "none"), sigma=None)
    assert summary["power_curve"] is None
    assert "one variant only" in _shown(summary)
    with pytest.raises(UserError, match="one variant only"):
        save_figure(summary, tmp_path / "power.png")


def test_the_figure_of_a_plan_is_the_same_bytes_again(summarise: Summarise, tmp_path: Path) -> None:
    summary = summarise("analysis.margin_nats=0.02", sigma=0.01)
    images = [tmp_path / name for name in ("once.png", "again.png")]
    for path in images:
        save_figure(summary, path)
    assert images[0].read_bytes() == images[1].read_bytes()
    with pytest.raises(UserError, match="--figure"):
        save_figure(summary, tmp_path / "no" / "power.png")


def test_the_page_shows_what_the_plan_prints(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    overrides = ("analysis.margin_nats=0.15", f"seeds.confirmation={list(range(10))}")
    study = load_study(ROOT / "studies" / "quickstart.toml", overrides)
    plan = make_plan(study, "0" * 64)
    summary = summarise_plan(study, plan, StudyFolder(tmp_path / "none"), sigma=0.1)
    lines = [line.rstrip() for line in _shown(summary).splitlines()]
    printed = "\n".join(lines[lines.index("One comparison: its interval holds at 95 %.") :])
    assert printed.replace("\n\n\n", "\n\n") in page.replace("\n\n\n", "\n\n")


def test_the_table_of_comparisons_on_the_page_is_what_the_curve_says() -> None:
    head, _, *rows = re.findall(r"^\| (?:comparisons|---|\d+) \|.*$", PAGE.read_text(), re.M)
    seeds = [int(number) for number in re.findall(r"\d+", head)]
    assert len(rows) == 4
    for row in rows:
        comparisons, *found = row.strip("| ").split(" | ")
        rule = replace(PAIRED, comparisons=int(comparisons))
        assert found == [f"{rule.detectable(n):.2f}" for n in seeds]


def _shown(summary: dict[str, Any]) -> str:
    console = Console(width=80, file=io.StringIO())
    with console.capture() as captured:
        console.print(render_plan(summary))
    return captured.get()


def test_the_plan_says_in_what_it_computes_and_who_decided(
    edited_study: Callable[..., Path], tmp_path: Path
) -> None:
    asked = load_study(edited_study((', ns_dtype = "fp32"', "")))
    found = resolve(asked)
    assert found.resolution is not None
    plan = make_plan(found.study, "0" * 64, resolution=found.resolution)
    folder = StudyFolder(tmp_path / "runs" / "tiny")
    summary = summarise_plan(found.study, plan, folder, sigma=None)
    dtype = found.resolution.ns_dtype
    assert summary["arithmetic"]["ns_dtype"] == {"muon": dtype}
    assert summary["arithmetic"]["resolution"]["reason"] == found.resolution.reason
    console = Console(file=io.StringIO(), width=500)
    console.print(render_plan(summary))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"training in fp32 on cpu, Newton-Schulz in {dtype} (auto is {dtype}, decided" in text


def test_a_plan_without_auto_has_nothing_to_decide(summarise: Summarise) -> None:
    arithmetic = summarise()["arithmetic"]
    assert arithmetic["ns_dtype"] == {"muon": "fp32"}
    assert arithmetic["resolution"] is None
