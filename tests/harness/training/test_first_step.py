"""The preflight's look at the first step, where an algorithm only measures in it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Parameter

from harness.training.preflight import PreflightError, check_movement, own_share
from optimizers import MuonSpec, build_optimizer
from optimizers.matrices.specs import SoapSpec


def named() -> list[tuple[str, Parameter]]:
    return [
        ("a.weight", Parameter(torch.ones(4, 6))),
        ("head.weight", Parameter(torch.ones(9, 4))),
    ]


def test_matrices_of_soap_may_rest_in_the_first_step_and_its_adamw_part_may_not() -> None:
    optimizer = build_optimizer(SoapSpec(lr=0.01), named())
    assert check_movement({"head.weight"}, optimizer) == {"soap": 0.0, "adamw_decay": 1.0}
    with pytest.raises(PreflightError, match="adamw_decay"):
        check_movement({"a.weight"}, optimizer)
    with pytest.raises(PreflightError, match="muon"):
        check_movement({"head.weight"}, build_optimizer(MuonSpec(lr=0.01), named()))


def test_newton_schulz_is_expected_of_those_who_orthogonalise_only() -> None:
    assert own_share(build_optimizer(MuonSpec(lr=0.01), named())) == 1.0
    assert own_share(build_optimizer(SoapSpec(lr=0.01), named())) == 0.0
