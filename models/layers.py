"""Small parts that every transformer has: the norm, the feed-forward, and the dtypes of both.

Shape suffixes: B sequences, T tokens of a sequence, D hidden size, F feed-forward size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def at_least_fp32(dtype: torch.dtype) -> torch.dtype:
    """The dtype for what must not be rounded to 16 bits: norms, rotations, routing, losses."""
    return torch.promote_types(dtype, torch.float32)


def autocast_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which a matrix product of `x` runs: autocast's where it is on, else its own.

    Our autograd Functions call products with preallocated outputs, which autocast passes by.
    """
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


class RMSNorm(nn.Module):
    """`x / sqrt(mean(x^2) + epsilon) * weight`, over the last dimension (arXiv 1910.07467)."""

    def __init__(self, size: int, *, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


class FeedForward(nn.Module):
    """`down(silu(up(x)))`, or gated, `down(silu(gate(x)) * up(x))` (arXiv 2002.05202).

    `up.weight` and `gate.weight` are (F, D), `down.weight` is (D, F): all (out, in).
    """

    def __init__(self, hidden_size: int, *, inner_size: int, gated: bool) -> None:
        super().__init__()
        self.up = nn.Linear(hidden_size, inner_size, bias=False)
        self.gate = nn.Linear(hidden_size, inner_size, bias=False) if gated else None
        self.down = nn.Linear(inner_size, hidden_size, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        up_BTF = self.up(x_BTD)
        inner_BTF = F.silu(up_BTF) if self.gate is None else F.silu(self.gate(x_BTD)) * up_BTF
        y: Tensor = self.down(inner_BTF)
        return y
