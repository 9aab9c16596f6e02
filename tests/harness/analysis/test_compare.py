"""From rows to verdicts."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from result_tables import BASE, MUON, SETTINGS, only, run, table
from scipy import stats

from harness.analysis.compare import analyse
from harness.analysis.result_rows import ResultRow
from harness.analysis.stats.dunnett import block_dunnett
from harness.errors import UserError
from harness.study.settings import AnalysisSettings


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
        "muon is better than adamw: -0.2975 [-0.3072, -0.2878], p < 0.0001, 8 paired seeds"
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
    t = stats.ttest_ind(MUON, BASE, equal_var=False).statistic
    assert comparison.p == pytest.approx(2 * stats.t.sf(abs(t), 7))
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
    adjusted = sorted(c.adjusted_p for c in analysis.comparisons)
    assert adjusted == pytest.approx([min(1.0, 3 * p) for p in raw])
    for comparison in analysis.comparisons:
        assert comparison.interval.low < comparison.interval_alone.low
        assert comparison.interval.level == pytest.approx(1 - 0.05 / 3)
        assert comparison.interval_alone.level == pytest.approx(0.95)
        assert "(adjusted for 3)" in comparison.sentence
    assert "all 3 together" in analysis.notes[0]
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
    risks = stats.boschloo_exact([[5, 0], [3, 8]]).pvalue
    assert comparison.divergence_p == pytest.approx(risks)


def test_a_variant_whose_runs_all_diverged_is_worse() -> None:
    comparison = only(analyse(table(adamw=BASE, muon=["diverged"] * 8), SETTINGS))
    assert comparison.verdict == "worse"


def test_five_divergences_in_five_pairs_are_worse() -> None:
    """A sign-flip test of five pairs, or McNemar's, cannot go below 0.0625."""
    rows = table(adamw=BASE[:5], muon=["diverged"] * 5)
    comparison = only(analyse(rows, AnalysisSettings(baseline="adamw", pairing="paired")))
    assert comparison.paired
    assert (comparison.verdict, comparison.test) == ("worse", "risk of divergence (Boschloo)")
    assert comparison.adjusted_p == pytest.approx(2 * 2 * 0.5**10)
    assert comparison.exact_p >= 0.0625


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
    assert "within 0.01" in comparison.sentence
    assert comparison.equivalence_p == pytest.approx(2 * comparison.equivalence.p)
    assert only(analyse(table(adamw=BASE, muon=near), SETTINGS)).verdict == "inconclusive"


def test_equivalence_is_adjusted_for_the_number_of_variants() -> None:
    rng = np.random.default_rng(62)
    noise = rng.normal(0.0, 0.012, 8)
    near = np.array(BASE) + noise - noise.mean()
    within = AnalysisSettings(baseline="adamw", margin_nats=0.0105)
    assert only(analyse(table(adamw=BASE, muon=near), within)).verdict == "equivalent"
    others = {f"other-{i}": np.array(BASE) + rng.normal(0, 0.02, 8) for i in range(17)}
    muon = analyse(table(adamw=BASE, muon=near, **others), within).comparisons[0]
    assert muon.verdict == "inconclusive"
    assert muon.equivalence_p == pytest.approx(2 * 18 * muon.equivalence.p)


def test_a_gain_beyond_the_margin_is_a_verdict_of_its_own() -> None:
    margin = AnalysisSettings(baseline="adamw", margin_nats=0.2)
    comparison = only(analyse(table(adamw=BASE, muon=MUON), margin))
    assert comparison.verdict == "better by the margin"
    assert comparison.interval.high < -0.2
    assert "muon is better, by at least the margin, than adamw" in comparison.sentence
    assert "(beyond 0.2)" in comparison.sentence
    swapped = only(
        analyse(table(muon=MUON, adamw=BASE), AnalysisSettings(baseline="muon", margin_nats=0.2))
    )
    assert swapped.verdict == "worse by the margin"


def test_a_margin_in_percent_of_speed_needs_what_it_is_worth() -> None:
    percent = AnalysisSettings(baseline="adamw", margin_speedup_percent=2.0)
    rows = table(adamw=BASE, muon=MUON)
    assert analyse(rows, percent, margin=0.002).margin == 0.002
    with pytest.raises(UserError, match="margin_nats"):
        analyse(rows, percent)


def test_a_known_noise_gives_a_z_and_a_contradicted_one_a_warning() -> None:
    rows = table(adamw=BASE, muon=MUON)
    known = only(analyse(rows, AnalysisSettings(baseline="adamw", sigma=0.025)))
    z = (np.mean(MUON) - np.mean(BASE)) / (0.025 * np.sqrt(2 / 8))
    assert known.statistic == pytest.approx(z)
    assert known.p == pytest.approx(2 * stats.norm.sf(abs(z)))
    assert (known.test, known.degrees_of_freedom) == ("z, noise stated beforehand", None)
    assert not any("contradicted" in note for note in known.notes)
    half = stats.norm.isf(0.025) * 0.025 * np.sqrt(2 / 8)
    assert known.interval.high - known.mean_difference == pytest.approx(half)
    for sigma, side in ((0.002, "larger"), (0.5, "smaller")):
        doubtful = only(analyse(rows, AnalysisSettings(baseline="adamw", sigma=sigma)))
        assert any("contradicted: the runs vary by 0.0" in n and side in n for n in doubtful.notes)


def test_an_inconclusive_comparison_says_how_many_seeds_would_settle_it() -> None:
    rng = np.random.default_rng(63)
    rows = table(adamw=BASE, muon=np.array(BASE) + rng.normal(-0.004, 0.012, 8))
    comparison = only(analyse(rows, SETTINGS))
    assert comparison.verdict == "inconclusive"
    assert comparison.seeds_to_settle is not None
    assert comparison.seeds_to_settle > 8
    (advice,) = [note for note in comparison.notes if "fresh seeds a side" in note]
    assert "looks are declared before its first run" in advice
    assert "more frequent than alpha" in advice
    margin = AnalysisSettings(baseline="adamw", margin_nats=0.006)
    assert only(analyse(rows, margin)).seeds_to_settle <= comparison.seeds_to_settle


def test_a_target_is_tested_one_sided_for_every_variant() -> None:
    values = [3.2779, 3.2779, 3.2789, 3.2778, 3.2789, 3.2785, 3.2806]
    alone = analyse(table(muon=values), AnalysisSettings(baseline="muon", target=3.28))
    (target,) = alone.targets
    assert target.p == pytest.approx(0.00533439, rel=2e-6)
    assert target.below
    assert target.sentence.endswith("p = 0.0053, 7 seeds")
    one_sided = stats.t.isf(0.05, 6) * np.std(values, ddof=1) / np.sqrt(7)
    assert target.upper_bound == pytest.approx(np.mean(values) + one_sided)
    assert alone.comparisons == ()
    both = analyse(
        table(adamw=[3.3] * 3 + ["diverged"] * 4, muon=values),
        AnalysisSettings(baseline="adamw", target=3.28),
    )
    adamw, muon = both.targets
    assert (adamw.p, adamw.below, adamw.mean) == (1.0, False, None)
    assert muon.adjusted_p == pytest.approx(2 * muon.p)
    shared = stats.t.isf(0.025, 6) * np.std(values, ddof=1) / np.sqrt(7)
    assert muon.upper_bound == pytest.approx(np.mean(values) + shared)
    assert muon.below == (muon.upper_bound < 3.28)


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
    assert found["schema_version"] == 2
    assert [c["variant"] for c in found["comparisons"]] == ["muon", "sgd"]
    assert found["comparisons"][0]["interval"]["level"] == pytest.approx(0.975)
    assert found["comparisons"][0]["interval_alone"]["level"] == pytest.approx(0.95)
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
    first, *rest = one.verdict.split(" ")
    assert other.verdict == " ".join([swap.get(first, first), *rest])
    assert other.p == pytest.approx(one.p, rel=1e-9)
    if one.mean_difference is not None:
        assert other.mean_difference == pytest.approx(-one.mean_difference)


@law
@given(pairs)
def test_the_verdict_means_what_it_is_defined_to_mean(p) -> None:
    c = only(analyse(table(a=[pair[0] for pair in p], b=[pair[1] for pair in p]), MARGIN))
    assert c.verdict.startswith(("better", "worse")) == (c.adjusted_p < 0.05)
    if c.verdict == "equivalent":
        assert c.equivalence_p < 0.05 <= c.adjusted_p
    if c.interval is not None:
        assert c.mean_difference in c.interval
        assert (0.0 not in c.interval) == (c.adjusted_p < 0.05)


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
