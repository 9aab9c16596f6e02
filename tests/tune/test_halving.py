"""Rungs that an interruption does not bend."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.study.settings import AshaSettings
from harness.training.records import Report
from tune.search.halving import EarlierRun, HalvingWithinVariants, result_of


@pytest.fixture(autouse=True)
def local_ray() -> None:
    """None is needed here."""


def reported(*losses: float) -> list[Report]:
    """At steps 2, 4, .."""
    return [
        Report.model_construct(step=2 * number, validation_loss=loss)
        for number, loss in enumerate(losses, start=1)
    ]


def scheduler(**earlier: list[Report]) -> HalvingWithinVariants:
    """Halving at step 4 of 8, with runs of one variant that reported before."""
    return HalvingWithinVariants(
        AshaSettings(reduction_factor=2.0, grace_fraction=0.5),
        steps=8,
        variants=["muon"],
        earlier=[EarlierRun(key=k, variant="muon", reports=r) for k, r in earlier.items()],
    )


def actions(halving: HalvingWithinVariants, key: str, reports: list[Report]) -> list[str]:
    trial: Any = SimpleNamespace(
        trial_id="another in every run", config={"trial": {"key": key, "variant": "muon"}}
    )
    halving.on_trial_add(None, trial)
    return [halving.on_trial_result(None, trial, result_of(report)) for report in reports]


def test_earlier_runs_fill_the_rungs() -> None:
    assert actions(scheduler(), "new", reported(5, 4)) == ["CONTINUE"] * 2
    assert actions(scheduler(a=reported(5, 3)), "new", reported(5, 4)) == ["CONTINUE", "STOP"]


def test_what_a_run_reports_again_counts_once() -> None:
    halving = scheduler(a=reported(5, 3), b=reported(5, 2.5))
    before = rung(halving)
    assert actions(halving, "b", reported(5, 2.5, 2.4)) == ["CONTINUE"] * 3
    assert rung(halving) == before == {"a": -3, "b": -2.5}


def test_a_run_that_goes_on_from_a_checkpoint_stays_in_the_rungs_that_it_passed() -> None:
    halving = scheduler(a=reported(5, 3))
    assert actions(halving, "a", reported(5, 3, 2)[2:]) == ["CONTINUE"]
    assert rung(halving) == {"a": -3}, "not the lower loss of a later step"


def test_a_run_that_was_stopped_just_before_the_driver_died_is_stopped_there() -> None:
    halving = scheduler(a=reported(5, 3), b=reported(5, 4))
    assert actions(halving, "b", reported(5, 4)) == ["CONTINUE", "STOP"]
    halving = scheduler(a=reported(5, 3), b=reported(5, 4))
    assert actions(halving, "b", reported(5, 4, 3.9)[2:]) == ["STOP"], "from a checkpoint"


def rung(halving: HalvingWithinVariants) -> dict[str, float]:
    ((_, recorded),) = halving.by_variant["muon"]._brackets[0]._rungs[-1:]
    return dict(recorded)
