"""When a study is stopped, because it is not its trials that are wrong."""

from __future__ import annotations

from harness.runs.attempts import AttemptEnd, AttemptEnded
from tune.recording.breaker import ALIKE, Breaker


def ended(words: str = "no network", *, step: int = 0, end: AttemptEnd = "machine") -> AttemptEnded:
    return AttemptEnded(attempt=1, at="now", end=end, step=step, cause=words, signature=words)


def opened(*failures: tuple[str, AttemptEnded], proven: bool = False) -> str | None:
    breaker = Breaker(variants=["adamw", "muon"], proven=proven)
    for variant, event in failures:
        breaker.failed(variant, event)
    return breaker.fault()


def test_it_opens_when_all_variants_fail_alike_before_their_first_step() -> None:
    both = [("adamw", ended()), ("muon", ended())] * ALIKE
    assert opened(*both[: ALIKE - 1]) is None
    assert opened(*both[:ALIKE]) == "no network"


def test_a_variant_that_fails_alone_is_its_own_fault() -> None:
    assert opened(*[("muon", ended())] * 10) is None


def test_different_failures_and_those_of_a_trained_trial_do_not_open_it() -> None:
    assert opened(*[(v, ended(v)) for v in ("adamw", "muon")]) is None
    assert opened(*[(v, ended(step=3)) for v in ("adamw", "muon")] * ALIKE) is None
    assert opened(*[(v, ended()) for v in ("adamw", "muon")] * ALIKE, proven=True) is None
    breaker = Breaker(variants=["adamw"], proven=False)
    breaker.failed("adamw", ended())
    breaker.trained()
    breaker.failed("adamw", ended())
    breaker.failed("adamw", ended())
    assert breaker.fault() is None
