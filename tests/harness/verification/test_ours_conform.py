"""Our own optimizers under the suite that we give to others."""

from __future__ import annotations

import pytest

from harness.verification import CHECKS, CheckResult, assert_conforms, verify
from harness.verification.subjects import REFUSED
from optimizers import REGISTRY

SOME = ("one_process", "clipping", "resume", "nonfinite_gradients")
KINDS = [kind for kind in REGISTRY if kind not in REFUSED]


@pytest.mark.distributed
def test_muon_keeps_its_promises_in_gangs_of_two() -> None:
    results = verify("muon", backends=("ddp", "zero2", "fsdp2"), workers=(2,), checks=SOME)
    assert_conforms(results)
    assert [r.status for r in results] == ["pass"] * 3 * (len(SOME) + 1)


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_every_promise_everywhere(kind: str) -> None:
    results = verify(kind, patience_s=180.0)
    assert_conforms(results)
    assert {r.check for r in results} == set(CHECKS)
    assert {r.check for r in results if r.status == "pass"} >= {"one_process", "resume"}


@pytest.mark.faults
def test_a_plain_optimizer_of_torch_runs_under_ddp_and_nowhere_else() -> None:
    results = verify("torch.optim:SGD", settings={"lr": 0.1, "momentum": 0.9}, workers=(1, 2))
    assert_conforms(results)
    assert {r.place for r in results if r.status == "pass"} == {"one process", "ddp x 2"}


def test_a_result_that_is_bad_is_told_with_its_meaning() -> None:
    bad = CheckResult("resume", "ddp x 2", "fail", 3.0, 0.0, "w")
    with pytest.raises(AssertionError, match="a resumed trial is another trial"):
        assert_conforms([bad])
    assert_conforms([bad, CheckResult("clipping", "ddp x 2", "pass", 0.0, 1.0)], "clipping")
    with pytest.raises(AssertionError, match="nothing was run"):
        assert_conforms([], "resume")
