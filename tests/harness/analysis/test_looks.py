"""Looks that were fixed in advance: each has its share of alpha, and what is decided stays so."""

from dataclasses import replace

import numpy as np
import pytest
from result_tables import BASE, MUON, only, table
from scipy import stats

from harness.analysis.compare import analyse
from harness.errors import UserError
from harness.study.settings import AnalysisSettings


def test_targets_spend_alpha_over_the_looks() -> None:
    rng = np.random.default_rng(65)
    values = 3.279 + rng.normal(0, 0.0005, 10)
    looked = AnalysisSettings(baseline="muon", target=3.28, looks=(4, 7, 10))
    (early,) = analyse(table(muon=values[:5]), looked).targets
    assert (early.look.seeds, early.look.next_look, early.n) == (4, 7, 4)
    assert early.adjusted_p == pytest.approx(min(1.0, early.p * 0.05 / early.look.nominal_p))
    assert early.look.nominal_p < 0.01
    assert analyse(table(muon=values[:5]), looked).seeds_wanted() == {"muon": 7}
    (late,) = analyse(table(muon=values - 0.02), looked).targets
    assert (late.below, late.look.decided, late.n) == (True, True, 4)
    assert late.upper_bound < 3.28


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
        assert (comparison.adjusted_p < 0.05) == comparison.look.decided
        assert (comparison.p < comparison.look.nominal_p) == comparison.look.decided


def test_equivalence_may_be_shown_at_any_look_by_the_interval_of_that_look() -> None:
    near = [value + 0.0005 * (-1) ** seed for seed, value in enumerate(BASE)]
    wide = AnalysisSettings(baseline="adamw", looks=LOOKS.looks, margin_nats=0.1)
    early = only(analyse(table(adamw=BASE[:6], muon=near[:6]), wide))
    assert (early.verdict, early.look.decided, early.look.next_look) == ("equivalent", True, None)
    assert early.interval.level == pytest.approx(1.0 - early.look.nominal_p)
    narrow = AnalysisSettings(baseline="adamw", looks=LOOKS.looks, margin_nats=0.0006)
    assert only(analyse(table(adamw=BASE[:6], muon=near[:6]), narrow)).look.next_look == 8


def test_whether_it_is_paired_is_settled_at_the_first_look() -> None:
    same = [value + 0.001 * (-1) ** seed for seed, value in enumerate(BASE)]
    rows = table(adamw=BASE, muon=same)
    broken = [
        replace(row, initial_sha256="other") if row.variant == "muon" and row.seed == 6 else row
        for row in rows
    ]
    comparison = only(analyse(broken, LOOKS))
    assert (comparison.verdict, comparison.adjusted_p, comparison.interval) == (
        "inconclusive",
        1.0,
        None,
    )
    assert any("the first look was paired" in note for note in comparison.notes)
    unpaired = [
        replace(row, initial_sha256="other") if row.variant == "muon" and row.seed == 1 else row
        for row in rows
    ]
    assert not only(analyse(unpaired, LOOKS)).paired


def test_looks_with_a_known_noise_have_the_bounds_of_normal_statistics() -> None:
    known = AnalysisSettings(baseline="adamw", looks=(4, 8), sigma=0.02)
    look = only(analyse(table(adamw=BASE[:4], muon=BASE[1:5]), known)).look
    # O'Brien-Fleming-type spending at half of the information (Lan and DeMets): z = 2.963.
    assert look.nominal_p == pytest.approx(2 * stats.norm.sf(2.9626), rel=1e-3)


def test_two_variants_share_the_alpha_of_the_looks() -> None:
    one = only(analyse(table(adamw=BASE, muon=BASE[::-1]), LOOKS)).look
    muon, _ = analyse(table(adamw=BASE, muon=BASE[::-1], other=MUON), LOOKS).comparisons
    assert muon.look.nominal_p < 0.6 * one.nominal_p


def test_looks_need_the_seeds_of_the_first_one() -> None:
    with pytest.raises(UserError, match="for the first look"):
        analyse(table(adamw=BASE[:3], muon=MUON[:3]), LOOKS)
