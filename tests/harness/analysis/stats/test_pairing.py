"""The certificate of pairing: by hashes, and by what the runs recorded of their arithmetic."""

from dataclasses import replace

import pytest

from harness.analysis.result_rows import ResultRow
from harness.analysis.stats.arithmetic import Computed
from harness.analysis.stats.pairing import certify


def start(seed: int) -> ResultRow:
    return ResultRow(
        variant="muon",
        seed=seed,
        value=3.0,
        initial_sha256=f"init{seed}",
        batches_sha256=f"data{seed}",
    )


CRASHED = {"outcome": "failed", "value": None}
SIDE = {seed: start(seed) for seed in range(3)}


def test_equal_hashes_for_every_seed_certify_a_pair() -> None:
    certificate = certify(SIDE, SIDE)
    assert certificate.paired
    assert certificate.certified
    assert "all 3 seeds" in certificate.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"initial_sha256": None}, "no hash of the initial parameters for seed 1"),
        ({"initial_sha256": "other"}, "the initial parameters differ for seed 1"),
        ({"batches_sha256": None}, "no hash of the batches for seed 1"),
        ({"batches_sha256": "other"}, "the batches differ for seed 1"),
    ],
)
def test_one_seed_that_differs_makes_it_unpaired(change, reason: str) -> None:
    other = {**SIDE, 1: replace(SIDE[1], **change)}
    for certificate in (certify(other, SIDE), certify(SIDE, other)):
        assert not certificate.paired
        assert certificate.reason == f"unpaired: {reason}"
    forced = certify(other, SIDE, pairing="paired")
    assert forced.paired
    assert not forced.certified
    assert reason in forced.reason


def test_a_run_that_did_not_complete_may_lack_the_hash_of_its_batches() -> None:
    ended = {**SIDE, 1: replace(SIDE[1], batches_sha256=None, **CRASHED)}
    assert certify(ended, SIDE).certified
    other = {**SIDE, 1: replace(SIDE[1], batches_sha256="other", **CRASHED)}
    assert not certify(other, SIDE).paired


def test_unequal_seeds_are_unpaired_and_refused_where_pairs_were_asked_for() -> None:
    fewer = {seed: SIDE[seed] for seed in (0, 2)}
    assert certify(fewer, SIDE).reason == "unpaired: only the baseline has seed(s) 1"
    with pytest.raises(ValueError, match=r"only the variant has seed\(s\) 1"):
        certify(SIDE, fewer, pairing="paired")


def test_unpaired_can_be_asked_for() -> None:
    assert not certify(SIDE, SIDE, pairing="unpaired").paired


def test_forced_pairs_with_equal_hashes_are_certified() -> None:
    assert certify(SIDE, SIDE, pairing="paired").certified


def test_a_long_list_of_seeds_is_cut() -> None:
    many = {seed: start(seed) for seed in range(20)}
    assert "and 9 more" in certify(many, SIDE).reason


CPU = Computed(
    precision="fp32", device_type="cpu", torch="2.13.0", code="0123456789abcdef", version="a1b2c3d"
)


def computed(side, **changes):
    """The side with what its runs recorded; `changes` hold for seed 1 alone."""
    runs = {seed: replace(run, computed=CPU) for seed, run in side.items()}
    return {**runs, 1: replace(runs[1], computed=replace(CPU, **changes))}


def test_runs_that_recorded_the_same_arithmetic_are_certified_by_it_too() -> None:
    certificate = certify(computed(SIDE), computed(SIDE))
    assert certificate.certified
    assert certificate.reason.endswith("3 seeds, and so do precision, device and code")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"precision": "bf16"}, "in bf16 on cpu with torch 2.13.0 by code a1b2c3d"),
        ({"device_type": "cuda"}, "in fp32 on cuda with torch 2.13.0 by code a1b2c3d"),
        ({"torch": "2.14.0"}, "in fp32 on cpu with torch 2.14.0 by code a1b2c3d"),
        ({"code": "f" * 16}, "in fp32 on cpu with torch 2.13.0 by code a1b2c3d (ffffffff)"),
    ],
)
def test_a_seed_of_other_arithmetic_is_never_paired_in_silence(change, words: str) -> None:
    certificate = certify(computed(SIDE, **change), computed(SIDE))
    assert not certificate.paired
    known = "in fp32 on cpu with torch 2.13.0 by code a1b2c3d (01234567)"
    assert certificate.reason.startswith(f"unpaired: seed 1 was trained {words}")
    assert certificate.reason.endswith(f", its baseline {known}")
    forced = certify(computed(SIDE, **change), computed(SIDE), pairing="paired")
    assert forced.paired
    assert not forced.certified
    assert words in forced.reason


def test_another_commit_of_the_same_sources_is_the_same_code() -> None:
    renamed = computed(SIDE, version="e4f5a6b")
    assert certify(renamed, computed(SIDE)).certified


def test_runs_that_recorded_nothing_pair_by_their_hashes_and_it_is_said() -> None:
    certificate = certify(SIDE, SIDE)
    assert certificate.certified
    assert certificate.reason.endswith("; precision, device and code are not recorded")


def test_what_is_not_recorded_does_not_agree_with_what_is() -> None:
    for certificate in (certify(SIDE, computed(SIDE)), certify(computed(SIDE), SIDE)):
        assert not certificate.paired
        assert "by something that is not recorded" in certificate.reason


def test_a_run_that_did_not_complete_may_lack_its_arithmetic() -> None:
    own = computed(SIDE)
    lost = {**own, 1: replace(own[1], computed=Computed(), **CRASHED)}
    assert certify(lost, computed(SIDE)).certified
    other = {**own, 1: replace(own[1], computed=replace(CPU, precision="bf16"), **CRASHED)}
    assert not certify(other, computed(SIDE)).paired


def newton_schulz(*dtypes: str):
    side = computed(SIDE)
    return {
        seed: replace(side[seed], computed=replace(CPU, ns_dtype=dtype))
        for seed, dtype in enumerate(dtypes)
    }


def test_newton_schulz_may_differ_between_the_sides_and_not_within_one() -> None:
    assert certify(newton_schulz("bf16", "bf16", "bf16"), computed(SIDE)).certified
    assert certify(newton_schulz("bf16", "bf16", "bf16"), newton_schulz(*["fp32"] * 3)).certified
    certificate = certify(newton_schulz("fp32", "bf16", "fp32"), computed(SIDE))
    assert not certificate.paired
    assert certificate.reason.startswith("unpaired: the variant was not computed alike: seed 1 in")
    assert "fp32 with Newton-Schulz in bf16 on cpu" in certificate.reason
    assert "seeds 0, 2 in fp32 with Newton-Schulz in fp32" in certificate.reason


def test_a_study_that_went_on_with_other_code_is_not_paired_though_each_seed_agrees() -> None:
    later = computed(SIDE, code="f" * 16, version="e4f5a6b")
    certificate = certify(later, later)
    assert not certificate.paired
    assert (
        "seed 1 in fp32 on cpu with torch 2.13.0 by code e4f5a6b (ffffffff)" in certificate.reason
    )
