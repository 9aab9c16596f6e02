"""How many tokens each expert got between two reports, and how far its weights moved.

An expert without a token should stay where it is; whether it does depends on the optimizer. So both
are measured here, from the outside, for every optimizer and backend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from harness.training.backends.protocol import Backend
from harness.training.records import ExpertActivity
from optimizers import NamedOptimizer
from optimizers.plan import Range


class ExpertMeter:
    """Counts during the steps, on the device and without waiting for it; answers at a report.

    The weights of the last report are kept in main memory, not in the device's: 4 bytes for each
    element of an expert that this worker counts.

    Args:
        optimizer: bound to what this worker holds; of its 3-D parameters `*.experts.*` the first
            dimension is the expert, and those with one prefix are one MoE layer.
        experts_per_token: assignments of each token.
    """

    def __init__(
        self, optimizer: NamedOptimizer, backend: Backend, *, experts_per_token: int
    ) -> None:
        self.optimizer, self.backend = optimizer, backend
        self.experts_per_token = experts_per_token
        shapes = {r.name: r.shape for r in optimizer.routes if _is_of_experts(r.name, r.shape)}
        layers = list(dict.fromkeys(map(_layer, shapes)))
        self.row = {name: layers.index(_layer(name)) for name in shapes}
        self.num_experts = {shape[0] for shape in shapes.values()}
        self.numel = {name: math.prod(shape[1:]) for name, shape in shapes.items()}
        self.counted = {
            name: held
            for name, held in optimizer.counted_ranges().items()
            if name in shapes and held[0] < held[1]
        }
        weights = optimizer.held_weights()
        self.before = {name: _in_main_memory(weights[name]) for name in self.counted}
        self.tokens: Tensor | None = None  # (MoE layers, E), of this worker since the last report

    @torch.no_grad()
    def count(self, router_load: Tensor, *, tokens: int) -> None:
        """Adds a micro-batch: the share of each expert, (MoE layers, E), of its tokens."""
        assignments = router_load.double() * (tokens * self.experts_per_token)
        self.tokens = assignments if self.tokens is None else self.tokens + assignments

    @torch.no_grad()
    def report(self) -> ExpertActivity | None:
        """What happened since the last call. A collective call.

        None before any step, and of a model whose experts are not found by their names.
        """
        tokens, self.tokens = self.tokens, None
        if tokens is None or not self._describes(tuple(tokens.shape)):
            return None
        square = torch.zeros_like(tokens)
        weights = self.optimizer.held_weights()
        for name, held in self.counted.items():
            square[self.row[name]] += self._square_change(name, held, weights[name])
        summed = self.backend.sum_over_workers(torch.stack([tokens, square]))
        movement = [
            [norm if math.isfinite(norm) else None for norm in layer]
            for layer in summed[1].sqrt().tolist()
        ]
        return ExpertActivity(tokens=summed[0].round().long().tolist(), movement=movement)

    def _describes(self, shape: Sequence[int]) -> bool:
        return (len(set(self.row.values())), *self.num_experts) == tuple(shape) and shape[1] > 0

    def _square_change(self, name: str, held: Range, weight: Tensor) -> Tensor:
        """`(E,)`: what this worker's elements add to the square of each expert's movement."""
        (num_experts,) = self.num_experts
        change = weight.float() - self.before[name].to(weight.device)
        self.before[name].copy_(weight)
        begins = [expert * self.numel[name] for expert in range(num_experts + 1)]
        bounds = [min(max(begin, held[0]), held[1]) - held[0] for begin in begins]
        parts = [change[a:b] for a, b in pairwise(bounds)]
        return torch.stack(torch._foreach_norm(parts)).double().square()


def _is_of_experts(name: str, shape: Sequence[int]) -> bool:
    return ".experts." in name and len(shape) == 3


def _layer(name: str) -> str:
    return name.rpartition(".experts.")[0]


def _in_main_memory(weight: Tensor) -> Tensor:
    return weight.to(device="cpu", dtype=torch.float32, copy=True)
