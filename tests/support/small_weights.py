"""Weights in double precision and their gradients, and every elementwise optimizer for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from optimizers import REGISTRY, AdamWSpec, OptimizerSpec

STEPS = 20
SHAPES: dict[str, tuple[int, ...]] = {
    "embedding.weight": (13, 6),
    "experts.up": (3, 6, 5),
    "row.weight": (1, 9),
    "norm.weight": (7,),
    "scalar": (),
}

OURS = {
    kind: entry.spec
    for kind, entry in REGISTRY.items()
    if entry.module.startswith("optimizers.elementwise.")
}
EVERY: dict[str, OptimizerSpec] = {kind: spec(lr=0.02) for kind, spec in OURS.items()} | {
    f"cautious-{kind}": spec(lr=0.02, cautious=True)
    for kind, spec in ({"adamw": AdamWSpec} | OURS).items()
    if "cautious" in spec.model_fields
}
every_kind = pytest.mark.parametrize("spec", EVERY.values(), ids=EVERY)


def parameters() -> dict[str, Parameter]:
    # In double precision, where a wrong formula cannot hide behind rounding.
    generator = torch.Generator().manual_seed(0)
    return {
        name: Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
        for name, shape in SHAPES.items()
    }


def gradients(*, seed: int = 1) -> Iterator[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield {
            name: torch.randn(shape, generator=generator, dtype=torch.float64)
            for name, shape in SHAPES.items()
        }


def train(
    optimizer: torch.optim.Optimizer, named: dict[str, Parameter], *, steps: int = STEPS
) -> dict[str, Tensor]:
    """Under a learning rate that rises and falls."""
    peaks = [group["lr"] for group in optimizer.param_groups]
    for step, found in zip(range(steps), gradients(), strict=False):
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * min(1.0, (step + 1) / 5) * (1.0 - step / (2 * steps))
        for name, parameter in named.items():
            parameter.grad = found[name].clone()
        optimizer.step()
    return {name: parameter.detach() for name, parameter in named.items()}
