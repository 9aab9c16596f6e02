"""From rows to verdicts."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from harness.analysis.compare import BaselineSlope, analyse
from harness.analysis.result_rows import ResultRow
from harness.analysis.results import Analysis
from harness.analysis.stats.dunnett import block_dunnett
from harness.errors import UserError
from harness.study.settings import AnalysisSettings

SETTINGS = AnalysisSettings(baseline="adamw")
BASE = [3.41, 3.43, 3.38, 3.44, 3.40, 3.42, 3.39, 3.45]
MUON = [3.11, 3.14, 3.07, 3.15, 3.11, 3.10, 3.10, 3.16]


def run(variant: str, seed: int, value: float | None, outcome: str = "completed") -> ResultRow:
    return ResultRow(
        variant=variant,
        seed=seed,
        value=value,
        outcome=outcome,
        initial_sha256=f"init{seed}",
        batches_sha256=f"data{seed}",
        diverged_at_step=100 + seed if outcome == "diverged" else None,
    )


def table(**values: Sequence[float | str]) -> list[ResultRow]:
    """A word instead of a number is the outcome of a run without a final value."""
    return [
        run(variant, seed, None, value) if isinstance(value, str) else run(variant, seed, value)
        for variant, own in values.items()
        for seed, value in enumerate(own)
    ]


def only(analysis: Analysis):
    (comparison,) = analysis.comparisons
    return comparison


def test_a_clear_gain_on_certified_pairs_is_better() -> None:
    comparison = only(analyse(table(adamw=BASE, muon=MUON), SETTINGS))
    scipy = stats.ttest_rel(MUON, BASE)
    assert comparison.verdict == "better"
    assert comparison.pairing_certified
    assert comparison.test == "paired t"
    assert comparison.p == pytest.approx(scipy.pvalue)
    assert comparison.mean_difference == pytest.approx(np.mean(MUON) - np.mean(BASE))
    interval = scipy.confidence_interval(0.95)
    assert (comparison.interval.low, comparison.interval.high) == pytest.approx(
        (interval.low, interval.high)
    )
    assert comparison.sentence == (
        "muon is better than adamw: -0.2975 [-0.3072, -0.2878], p < 0.0001 (Holm), 8 paired seeds"
    )


def test_a_unit_is_named_where_it_is_known_and_two_are_refused() -> None:
    rows = [replace(row, unit="nats") for row in table(adamw=BASE, muon=MUON)]
    assert "-0.2975 nats [" in only(analyse(rows, SETTINGS)).sentence
    with pytest.raises(UserError, match="values in bits, nats cannot be compared"):
        analyse([replace(rows[0], unit="bits"), *rows[1:]], SETTINGS)


def test_rows_without_hashes_get_welch_and_the_reason() -> None:
    rows = [replace(row, initial_sha256=None) for row in table(adamw=BASE, muon=MUON)]
    comparison = only(analyse(rows, SETTINGS))
    assert comparison.test == "Welch t"
    assert comparison.p == pytest.approx(stats.ttest_ind(MUON, BASE, equal_var=False).pvalue)
    assert "no hash of the initial parameters" in comparison.pairing_reason
    assert comparison.effects.d_z is None


def test_correlated_values_do_not_make_a_pair() -> None:
    rows = [replace(row, batches_sha256=row.variant) for row in table(adamw=BASE, muon=BASE[::-1])]
    assert not only(analyse(rows, SETTINGS)).paired


def test_several_variants_are_adjusted_together() -> None:
    rng = np.random.default_rng(61)
    noise = {name: 3.4 + rng.normal(0, 0.01, 8) for name in ("adamw", "a", "b", "c")}
    analysis = analyse(table(**noise), SETTINGS)
    raw = sorted(c.p for c in analysis.comparisons)
    adjusted = sorted(c.p_holm for c in analysis.comparisons)
    assert adjusted[0] == pytest.approx(min(1.0, 3 * raw[0]))
    for comparison in analysis.comparisons:
        assert comparison.p_holm >= comparison.p
        assert comparison.simultaneous_interval.low < comparison.interval.low
        assert comparison.simultaneous_interval.level == pytest.approx(1 - 0.05 / 3)
    dunnett = block_dunnett([noise[name] for name in ("a", "b", "c")], noise["adamw"])
    assert dunnett is not None
    assert [c.block_dunnett_p for c in analysis.comparisons] == pytest.approx(dunnett.p)


def test_a_diverged_seed_stays_in_the_table_and_takes_the_mean_away() -> None:
    analysis = analyse(table(adamw=BASE, muon=[*MUON[:7], "diverged"]), SETTINGS)
    _, muon = analysis.variants
    assert muon.outcomes["diverged"] == 1
    assert (muon.n, muon.mean, muon.interval) == (8, None, None)
    assert muon.median == pytest.approx(np.median([*MUON[:7], 99.0]))
    comparison = only(analysis)
    assert comparison.mean_difference is None
    assert comparison.interval is None
    assert comparison.test.startswith("ranks, diverged last")
    assert comparison.effects.a12 == pytest.approx(56 / 64)


def test_three_good_survivors_of_eight_are_not_better() -> None:
    comparison = only(analyse(table(adamw=BASE, muon=[*MUON[:3], *["diverged"] * 5]), SETTINGS))
    assert comparison.verdict != "better"
    assert comparison.divergence_p == pytest.approx(stats.binomtest(5, 5).pvalue)


def test_a_variant_whose_runs_all_diverged_is_worse() -> None:
    comparison = only(analyse(table(adamw=BASE, muon=["diverged"] * 8), SETTINGS))
    assert comparison.verdict == "worse"


def test_a_variant_whose_runs_all_failed_is_inconclusive() -> None:
    for word in ("failed", "out_of_memory", "stopped"):
        comparison = only(analyse(table(adamw=BASE, muon=[word] * 8), SETTINGS))
        assert comparison.verdict == "inconclusive"


def test_runs_that_repeat_one_number_are_no_evidence() -> None:
    comparison = only(analyse(table(adamw=[3.4] * 8, muon=[3.1] * 8), SETTINGS))
    assert (comparison.verdict, comparison.p, comparison.exact_p) == ("inconclusive", 1.0, 1.0)
    assert comparison.interval is None
    assert any("one measurement repeated" in note for note in comparison.notes)


def test_equal_runs_are_inconclusive_without_a_margin() -> None:
    comparison = only(analyse(table(adamw=BASE, muon=BASE), SETTINGS))
    assert (comparison.verdict, comparison.p) == ("inconclusive", 1.0)


def test_a_small_difference_within_the_margin_is_equivalent() -> None:
    rng = np.random.default_rng(62)
    noise = rng.normal(0.0, 0.003, 8)
    near = np.array(BASE) + noise - noise.mean() + 0.0005
    within = AnalysisSettings(baseline="adamw", margin_nats=0.01)
    comparison = only(analyse(table(adamw=BASE, muon=near), within))
    assert comparison.verdict == "equivalent"
    assert "TOST within 0.01" in comparison.sentence
    assert only(analyse(table(adamw=BASE, muon=near), SETTINGS)).verdict == "inconclusive"


def test_a_margin_in_percent_of_speed_needs_the_slope() -> None:
    percent = AnalysisSettings(baseline="adamw", margin_speedup_percent=2.0)
    rows = table(adamw=BASE, muon=MUON)
    slope = BaselineSlope(steps=1000, loss_per_step=-1e-4)
    assert analyse(rows, percent, slope=slope).margin == pytest.approx(0.002)
    with pytest.raises(UserError, match="margin_nats"):
        analyse(rows, percent)


def test_an_inconclusive_comparison_says_how_many_seeds_would_settle_it() -> None:
    rng = np.random.default_rng(63)
    rows = table(adamw=BASE, muon=np.array(BASE) + rng.normal(-0.004, 0.012, 8))
    comparison = only(analyse(rows, SETTINGS))
    assert comparison.verdict == "inconclusive"
    assert comparison.seeds_to_settle is not None
    assert comparison.seeds_to_settle > 8
    margin = AnalysisSettings(baseline="adamw", margin_nats=0.006)
    assert only(analyse(rows, margin)).seeds_to_settle <= comparison.seeds_to_settle


def test_a_target_is_tested_one_sided_for_every_variant() -> None:
    values = [3.2779, 3.2779, 3.2789, 3.2778, 3.2789, 3.2785, 3.2806]
    alone = analyse(table(muon=values), AnalysisSettings(baseline="muon", target=3.28))
    (target,) = alone.targets
    assert target.p == pytest.approx(0.00533439, rel=2e-6)
    assert target.below
    one_sided = stats.t.isf(0.05, 6) * np.std(values, ddof=1) / np.sqrt(7)
    assert target.upper_bound == pytest.approx(np.mean(values) + one_sided)
    assert alone.comparisons == ()
    both = analyse(
        table(adamw=[3.3] * 3 + ["diverged"] * 4, muon=values),
        AnalysisSettings(baseline="adamw", target=3.28),
    )
    adamw, muon = both.targets
    assert (adamw.p, adamw.below, adamw.mean) == (1.0, False, None)
    assert muon.p_holm == pytest.approx(2 * muon.p)


LOOKS = AnalysisSettings(baseline="adamw", looks=(4, 6, 8))


def test_a_clear_gain_is_decided_before_the_last_look_and_later_seeds_are_not_read() -> None:
    analysis = analyse(table(adamw=BASE, muon=MUON), LOOKS)
    comparison = only(analysis)
    assert comparison.look.decided
    assert (comparison.n, comparison.look.seeds) == (4, 4)
    assert comparison.look.unused_seeds == 4
    assert comparison.p == pytest.approx(stats.ttest_rel(MUON[:4], BASE[:4]).pvalue)
    assert comparison.verdict == "better"
    assert analysis.seeds_wanted() == {}


def test_an_undecided_variant_asks_for_the_seeds_of_the_next_look() -> None:
    rows = table(adamw=BASE[:5], muon=[value + 0.001 for value in BASE[1:5] + BASE[:1]])
    analysis = analyse(rows, LOOKS)
    comparison = only(analysis)
    assert (comparison.n, comparison.look.next_look, comparison.verdict) == (4, 6, "inconclusive")
    assert analysis.seeds_wanted() == {"muon": 6, "adamw": 6}


def test_a_variant_that_was_decided_early_may_have_fewer_seeds() -> None:
    rows = table(adamw=BASE, muon=MUON[:4], other=BASE[::-1])
    muon, other = analyse(rows, LOOKS).comparisons
    assert (muon.n, muon.paired, other.n) == (4, True, 8)


def test_with_looks_the_adjusted_p_is_below_alpha_exactly_when_it_is_decided() -> None:
    for shift in (0.0, 0.01, 0.02, 0.04):
        rng = np.random.default_rng(64)
        muon = np.array(BASE) - shift + rng.normal(0, 0.01, 8)
        comparison = only(analyse(table(adamw=BASE, muon=muon), LOOKS))
        assert (comparison.p_holm < 0.05) == comparison.look.decided
        assert (comparison.p < comparison.look.nominal_p) == comparison.look.decided


def test_equivalence_is_tested_at_the_last_look_only() -> None:
    near = [value + 0.0005 * (-1) ** seed for seed, value in enumerate(BASE)]
    wide = AnalysisSettings(baseline="adamw", looks=LOOKS.looks, margin_nats=0.1)
    early = only(analyse(table(adamw=BASE[:6], muon=near[:6]), wide))
    assert (early.equivalence, early.verdict, early.look.next_look) == (None, "inconclusive", 8)
    assert only(analyse(table(adamw=BASE, muon=near), wide)).verdict == "equivalent"


def test_two_variants_share_the_alpha_of_the_looks() -> None:
    one = only(analyse(table(adamw=BASE, muon=BASE[::-1]), LOOKS)).look
    muon, _ = analyse(table(adamw=BASE, muon=BASE[::-1], other=MUON), LOOKS).comparisons
    assert muon.look.nominal_p < 0.6 * one.nominal_p


def test_looks_need_the_seeds_of_the_first_one() -> None:
    with pytest.raises(UserError, match="for the first look"):
        analyse(table(adamw=BASE[:3], muon=MUON[:3]), LOOKS)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no results"),
        (table(adamw=BASE), "only one variant"),
        (table(muon=MUON, sgd=BASE), "choose one of muon, sgd"),
        (table(adamw=BASE[:2], muon=MUON), "variant 'adamw' has 2 seed"),
        (
            [*table(adamw=BASE, muon=MUON), run("muon", 3, 3.0)],
            r"more than one row for seed\(s\) \[3\]",
        ),
    ],
)
def test_a_table_that_cannot_be_judged_is_refused(rows, message: str) -> None:
    with pytest.raises(UserError, match=message):
        analyse(rows, SETTINGS)


def test_all_mistakes_of_a_table_come_together() -> None:
    with pytest.raises(UserError) as caught:
        analyse(table(muon=MUON[:2], sgd=BASE[:1]), SETTINGS)
    assert len(str(caught.value).splitlines()) == 3


def test_pairs_that_were_asked_for_need_equal_seeds() -> None:
    with pytest.raises(UserError, match="only the baseline has seed"):
        analyse(
            table(adamw=BASE, muon=MUON[:5]), AnalysisSettings(baseline="adamw", pairing="paired")
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"value": None}, "completed, yet its value"),
        ({"value": float("nan")}, "completed, yet its value"),
        ({"value": 3.0, "outcome": "diverged"}, "yet it has a final value"),
        ({"value": None, "outcome": "exploded"}, "not one of"),
    ],
)
def test_a_row_is_a_value_or_an_outcome(fields, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ResultRow(variant="muon", seed=1, **fields)


@pytest.mark.parametrize(
    "bad",
    [
        {"alpha": 0.0},
        {"alpha": 5},
        {"margin_nats": -1},
        {"margin_nats": 0.1, "margin_speedup_percent": 1.0},
        {"looks": [7, 4]},
        {"target": float("nan")},
        {"alhpa": 0.05},
    ],
)
def test_settings_that_make_no_sense_are_refused(bad) -> None:
    with pytest.raises(ValidationError):
        AnalysisSettings(baseline="adamw", **bad)


def test_the_json_is_strict_and_complete() -> None:
    rows = table(adamw=BASE, muon=MUON, sgd=[*BASE[:6], "diverged", "failed"])
    analysis = analyse(rows, AnalysisSettings(baseline="adamw", target=3.2, margin_nats=0.1))
    found = json.loads(json.dumps(analysis.to_json(), allow_nan=False))
    assert found["schema_version"] == 1
    assert [c["variant"] for c in found["comparisons"]] == ["muon", "sgd"]
    assert found["comparisons"][0]["interval"]["level"] == pytest.approx(0.95)
    assert found["comparisons"][1]["mean_difference"] is None
    assert len(found["targets"]) == 3


values = st.floats(1.0, 5.0).map(lambda v: round(v, 3))
cell = st.one_of(values, st.sampled_from(["diverged", "failed"]))
pairs = st.lists(st.tuples(cell, cell), min_size=3, max_size=6)
law = settings(max_examples=40, deadline=None)
MARGIN = AnalysisSettings(baseline="a", margin_nats=0.5)


@law
@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(p, random) -> None:
    rows = table(a=[pair[0] for pair in p], b=[pair[1] for pair in p])
    shuffled = list(rows)
    random.shuffle(shuffled)
    shuffled.sort(key=lambda row: row.variant)
    assert analyse(shuffled, MARGIN).to_json() == analyse(rows, MARGIN).to_json()


@law
@given(pairs)
def test_swapping_variant_and_baseline_flips_the_verdict(p) -> None:
    x, y = [pair[0] for pair in p], [pair[1] for pair in p]
    one = only(analyse(table(a=x, b=y), MARGIN))
    other = only(analyse(table(a=y, b=x), MARGIN))
    swap = {"better": "worse", "worse": "better"}
    assert other.verdict == swap.get(one.verdict, one.verdict)
    assert other.p == pytest.approx(one.p, rel=1e-9)
    if one.mean_difference is not None:
        assert other.mean_difference == pytest.approx(-one.mean_difference)


@law
@given(pairs)
def test_the_verdict_means_what_it_is_defined_to_mean(p) -> None:
    c = only(analyse(table(a=[pair[0] for pair in p], b=[pair[1] for pair in p]), MARGIN))
    assert (c.verdict in ("better", "worse")) == (c.p_holm < 0.05)
    if c.verdict == "equivalent":
        assert c.equivalence.p < 0.05 <= c.p_holm
    if c.interval is not None:
        assert c.mean_difference in c.interval
        assert (0.0 not in c.interval) == (c.p < 0.05)


@law
@given(pairs, st.floats(-1.0, 1.0).map(lambda v: round(v, 3)))
def test_a_constant_on_both_sides_changes_nothing(p, shift: float) -> None:
    def add(value):
        return value if isinstance(value, str) else value + shift

    x, y = [pair[0] for pair in p], [pair[1] for pair in p]
    one = only(analyse(table(a=x, b=y), MARGIN))
    other = only(analyse(table(a=list(map(add, x)), b=list(map(add, y))), MARGIN))
    assert other.verdict == one.verdict
    assert other.p == pytest.approx(one.p, rel=1e-5, abs=1e-9)
