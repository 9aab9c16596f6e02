"""Scion against the library's, step by step: each norm, constrained and not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from pytorch_optimizer import SCION
from pytorch_optimizer.optimizer.scion import LMONorm
from torch.nn import Parameter

from optimizers import build_optimizer
from optimizers.matrices.specs import ScionSpec

SHAPES = {
    "embedding.weight": (30, 8),
    "layers.0.wide.weight": (8, 20),
    "layers.0.tall.weight": (20, 8),
    "layers.0.norm.weight": (8,),
    "head.weight": (30, 8),
}
NORMS = {
    "embedding.weight": (LMONorm.SIGN, 60.0),
    "layers.0.wide.weight": (LMONorm.SPECTRAL, 5.0),
    "layers.0.tall.weight": (LMONorm.SPECTRAL, 5.0),
    "layers.0.norm.weight": (LMONorm.BIAS, 2.0),
    "head.weight": (LMONorm.SIGN, 60.0),
}


def spec(**changes: Any) -> ScionSpec:
    settings: dict[str, Any] = {
        "lr": 0.003,
        "radius": 5.0,
        "sign_radius": 60.0,
        "vector_radius": 2.0,
        "ns_dtype": "fp32",
        **changes,
    }
    return ScionSpec(**settings)


@pytest.mark.parametrize("constrained", [True, False])
def test_steps_are_those_of_the_library(toy: Any, constrained: bool, peer_in_float32: None) -> None:
    ours, theirs = toy.parameters(SHAPES), toy.parameters(SHAPES)
    before = {name: p.detach().clone() for name, p in ours.items()}
    optimizer = build_optimizer(spec(constrained=constrained), ours.items())
    peer = SCION(
        [
            {"params": [theirs[name]], "norm_type": norm, "scale": radius}
            for name, (norm, radius) in NORMS.items()
        ],
        lr=0.003,
        momentum=0.1,
        constraint=constrained,
    )
    for gradients in toy.gradients(ours, steps=20):
        for named in (ours, theirs):
            for name, parameter in named.items():
                parameter.grad = gradients[name].clone()
        optimizer.step()
        peer.step()
        for name, parameter in ours.items():
            torch.testing.assert_close(parameter, theirs[name], rtol=0, atol=2e-5)
    assert all((ours[name] - before[name]).abs().max() > 1e-2 for name in ours)


def test_experts_step_as_the_matrices_that_they_are(toy: Any) -> None:
    """`(inputs, outputs)` experts move as transposed `(outputs, inputs)` weights do."""
    generator = torch.Generator().manual_seed(0)
    stacked = {"l.experts.up": Parameter(torch.randn(3, 8, 20, generator=generator))}
    alone = {
        f"w{i}": Parameter(stacked["l.experts.up"][i].detach().mT.contiguous()) for i in range(3)
    }
    first, second = (build_optimizer(spec(), named.items()) for named in (stacked, alone))
    for gradients in toy.gradients(stacked, steps=5):
        stacked["l.experts.up"].grad = gradients["l.experts.up"]
        for i in range(3):
            alone[f"w{i}"].grad = gradients["l.experts.up"][i].mT.contiguous()
        first.step()
        second.step()
    for i in range(3):
        torch.testing.assert_close(
            stacked["l.experts.up"][i].mT, alone[f"w{i}"], rtol=1e-4, atol=1e-5
        )


def test_every_parameter_is_claimed_and_none_by_adamw(toy: Any) -> None:
    optimizer = build_optimizer(spec(), toy.parameters().items())
    groups = {route.name: route.group for route in optimizer.routes}
    assert groups["embedding.weight"] == groups["head.weight"] == "scion_sign"
    assert groups["layers.0.norm.weight"] == "scion_vector"
    assert groups["layers.0.router.weight"] == groups["layers.0.experts.up"] == "scion"
    assert set(groups.values()) == {"scion", "scion_sign", "scion_vector"}


def test_constrained_weights_stay_within_their_radius(toy: Any) -> None:
    """From inside, a step goes to a point between the weight and the sphere."""
    named = toy.parameters()
    for parameter in named.values():
        parameter.data.mul_(0.01)
    optimizer = build_optimizer(spec(lr=0.2, schedule="polar_express", num_steps=8), named.items())
    toy.train(optimizer, named, steps=30)
    assert named["layers.0.norm.weight"].square().mean().sqrt() <= 2.0 * 1.001
    assert named["head.weight"].abs().sum(1).max() <= 60.0 * 1.001
    spectral = torch.linalg.matrix_norm(named["layers.0.attention.output.weight"], 2)
    assert spectral <= 5.0 * 1.02


def test_a_saved_state_continues_the_same_trajectory(toy: Any) -> None:
    whole = toy.trained(spec(), steps=5)
    named = toy.parameters()
    optimizer = build_optimizer(spec(), named.items())
    for index, step in enumerate(toy.gradients(named, steps=5)):
        if index == 3:
            saved = optimizer.state_dict()
            optimizer = build_optimizer(spec(), named.items())
            optimizer.load_state_dict(saved)
        for name, parameter in named.items():
            parameter.grad = step[name]
        optimizer.step()
    assert all(torch.equal(named[name].detach(), whole[name]) for name in named)


def test_a_schedule_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValidationError, match="has 5 steps, got num_steps = 6"):
        spec(schedule="cubic5", num_steps=6)
