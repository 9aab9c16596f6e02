"""A small model's parameters of every kind, and the gradients that train it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from optimizers import OptimizerSpec, build_optimizer

SHAPES = {
    "embedding.weight": (30, 8),
    "layers.0.attention.query.weight": (24, 8),
    "layers.0.attention.output.weight": (8, 8),
    "layers.0.norm.weight": (8,),
    "layers.0.router.weight": (4, 8),
    "layers.0.experts.up": (4, 8, 20),
    "layers.0.experts.down": (4, 20, 8),
    "layers.0.row.weight": (1, 8),
    "head.weight": (30, 8),
}


class Toy:
    """Named parameters without a model; all draws are the same every time."""

    def parameters(self, shapes: dict[str, tuple[int, ...]] = SHAPES) -> dict[str, Parameter]:
        generator = torch.Generator().manual_seed(0)
        return {
            name: Parameter(torch.randn(shape, generator=generator))
            for name, shape in shapes.items()
        }

    def gradients(
        self, named: dict[str, Parameter], *, steps: int, seed: int = 1
    ) -> Iterator[dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            yield {name: torch.randn(p.shape, generator=generator) for name, p in named.items()}

    def train(
        self, optimizer: torch.optim.Optimizer, named: dict[str, Parameter], *, steps: int = 5
    ) -> dict[str, Tensor]:
        for step in self.gradients(named, steps=steps):
            for name, parameter in named.items():
                parameter.grad = step[name]
            optimizer.step()
        return {name: parameter.detach().clone() for name, parameter in named.items()}

    def trained(self, spec: OptimizerSpec, **options: int) -> dict[str, Tensor]:
        """The parameters after some steps of what the specification names."""
        named = self.parameters()
        return self.train(build_optimizer(spec, named.items()), named, **options)


@pytest.fixture
def peer_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's Newton-Schulz in float32: it computes in bfloat16 unless told otherwise."""
    from pytorch_optimizer.optimizer.utils.matrix import zero_power_via_newton_schulz_5 as theirs

    *others, dtype = theirs.__defaults__
    assert dtype == torch.bfloat16
    monkeypatch.setattr(theirs, "__defaults__", (*others, torch.float32))


@pytest.fixture
def toy() -> Toy:
    return Toy()
