"""The certificate of pairing is decided by hashes alone."""

from dataclasses import replace

import pytest

from harness.analysis.result_rows import ResultRow
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
