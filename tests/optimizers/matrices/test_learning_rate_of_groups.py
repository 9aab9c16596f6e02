"""Step and decay of every optimizer of matrices follow the rate of its groups, as schedules do."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from optimizers import MuonSpec, OptimizerSpec, build_optimizer
from optimizers.matrices.specs import ScionSpec, ShampooSpec, SoapSpec

SPECS: dict[str, OptimizerSpec] = {
    "soap": SoapSpec(lr=0.01, weight_decay=0.5),
    "shampoo": ShampooSpec(lr=0.01, weight_decay=0.5),
    "scion": ScionSpec(lr=0.001, radius=5.0, sign_radius=50.0, ns_dtype="fp32"),
    "normuon": MuonSpec(lr=0.01, weight_decay=0.5, normuon=True, ns_dtype="fp32"),
    "normuon_rms": MuonSpec(lr=0.01, normuon=True, scale="match_rms", ns_dtype="fp32"),
    "hyperball": MuonSpec(lr=0.01, hyperball=True, ns_dtype="fp32"),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_at_a_hundredth_of_the_rate_weights_go_a_hundredth_of_the_way(
    toy: Any, spec: OptimizerSpec
) -> None:
    start = toy.parameters()
    moved = {}
    for factor in (1.0, 0.01):
        named = toy.parameters()
        optimizer = build_optimizer(spec, named.items())
        first, second = toy.gradients(named, steps=2)  # SOAP's first step only measures
        for gradients, rate in ((first, 0.0), (second, factor)):
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * rate
            for name, parameter in named.items():
                parameter.grad = gradients[name]
            optimizer.step()
            if not rate:
                for name in named:
                    torch.testing.assert_close(named[name], start[name], rtol=1e-6, atol=1e-6)
        moved[factor] = {name: (named[name] - start[name]).detach().norm() for name in named}
    for name, way in moved[1.0].items():
        assert 0.009 < moved[0.01][name] / way < 0.011, name
