"""Each check finds the fault that was planted for it, and an honest optimizer passes them all."""

from __future__ import annotations

import pytest
from planted import ALONE, IN_GANGS

from harness.verification import CHECKS, Place, verify
from harness.verification.bench import Bench
from harness.verification.runs import RUNS
from harness.verification.subjects import subject_of

HERE = Place("ddp", 1)
LR = {"lr": 0.1}
IN_ONE_PROCESS = [name for name, check in CHECKS.items() if check.not_applicable(HERE) is None]


@pytest.fixture(scope="module")
def honest() -> Bench:
    return Bench(subject_of("planted:Honest", LR), HERE)


def test_there_is_a_planted_fault_for_every_check() -> None:
    assert [name for name in CHECKS if name not in ALONE and name not in IN_GANGS] == []
    assert list(RUNS) == list(CHECKS)


@pytest.mark.parametrize("check", IN_ONE_PROCESS)
def test_an_honest_optimizer_passes(honest: Bench, check: str) -> None:
    found = RUNS[check](honest)
    assert found.passes, found


@pytest.mark.parametrize(("check", "fault"), [(c, f) for c, f in ALONE.items() if c != "starts"])
def test_the_check_finds_its_fault(check: str, fault: str) -> None:
    bench = Bench(subject_of(f"planted:{fault}", LR), HERE)
    found = RUNS[check](bench)
    assert not found.passes
    assert found.detail


def test_updates_that_are_missing_are_as_wrong_as_those_too_many() -> None:
    found = RUNS["accumulation"](Bench(subject_of("planted:CountsEverySecond", LR), HERE))
    assert not found.passes
    assert "2 updates of" in found.detail


@pytest.mark.faults
def test_an_exception_is_an_error_of_its_check_and_of_no_other_place() -> None:
    results = verify("planted:Raises", settings=LR, workers=(1,), checks=["zero_gradients"])
    assert [result.status for result in results] == ["error", "error"]
    assert "RuntimeError: no such kernel" in results[0].detail


@pytest.mark.faults
@pytest.mark.parametrize("check", IN_GANGS)
def test_a_gang_finds_the_fault_that_only_gangs_show(check: str) -> None:
    fault, backend = IN_GANGS[check]
    results = verify(
        f"planted:{fault}", settings=LR, backends=[backend], workers=(2,), checks=[check]
    )
    assert {r.check: r.status for r in results} == {"starts": "pass", check: "fail"}


@pytest.mark.faults
def test_a_gang_whose_workers_wait_for_each_other_is_ended_and_the_next_check_runs() -> None:
    results = verify(
        "planted:WaitsForMissing",
        settings=LR,
        backends=["ddp"],
        workers=(2,),
        checks=["missing_gradients", "zero_gradients"],
        patience_s=40.0,
    )
    found = {result.check: result for result in results}
    assert found["missing_gradients"].status == "fail"
    assert "hung" in found["missing_gradients"].detail
    assert found["zero_gradients"].status == "pass"


@pytest.mark.faults
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("RefusesOnOneWorker", "worker 1 of 2: ValueError: max() arg is an empty sequence"),
        ("EndsOneWorker", "worker 1 of 2: the process ended: exit code 3"),
    ],
)
def test_what_one_worker_alone_refuses_or_ends_is_an_error(fault: str, said: str) -> None:
    results = verify(
        f"planted:{fault}", settings=LR, backends=["ddp"], workers=(2,), checks=["starts"]
    )
    assert [result.status for result in results] == ["error"]
    assert said in results[0].detail
