"""After the first step every group has moved, unless its optimizer says that none does."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Parameter

from harness.training.preflight import PreflightError, check_movement
from optimizers import OptimizerSpec, build_optimizer
from optimizers.elementwise.specs import AdoptSpec, LionSpec


def shares(spec: OptimizerSpec) -> dict[str, float]:
    named = {"w": Parameter(torch.ones(3, 4)), "norm": Parameter(torch.ones(3))}
    optimizer = build_optimizer(spec, named.items())
    for parameter in named.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    moved = {name for name, p in named.items() if bool((p != 1.0).any())}
    return check_movement(moved, optimizer)


def test_an_optimizer_whose_first_gradient_moves_nothing_is_no_mistake() -> None:
    assert shares(AdoptSpec(lr=0.1)) == {"adopt_decay": 1.0, "adopt_no_decay": 0.0}


def test_any_other_that_moves_nothing_is_refused() -> None:
    assert shares(LionSpec(lr=0.1)) == {"lion_decay": 1.0, "lion_no_decay": 1.0}
    named = {"norm": Parameter(torch.ones(3))}
    with pytest.raises(PreflightError, match="'lion_no_decay' did not move the model"):
        check_movement(set(), build_optimizer(LionSpec(lr=0.1), named.items()))
