"""Causal self-attention with rotary positions.

Shape suffixes: B sequences, T tokens of a sequence, D hidden size, H heads, K head size, G = B * H.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.blocked_attention import BlockedAttention
from models.layers import at_least_fp32

# The dtypes in which attention on a CPU runs in blocks of queries. In bf16 torch's own kernel takes
# 2.7 times as long (45.5 ms against 16.7 ms a layer, on a CPU with bf16 products); in fp32 a
# training step took 0.94 to 1.04 times as long with it (128 to 1024 tokens, two cores of Zen 3).
CPU_DTYPES_IN_BLOCKS = (torch.bfloat16,)


def rotary_rotations(x_BTD: Tensor, *, head_size: int, theta: float) -> Tensor:
    """The rotations by which rotary embeddings turn position t (arXiv 2104.09864).

    `r[t, j] = exp(i t theta^(-2j / head_size))`. They are made anew for every batch: it is a few
    microseconds, and there is neither a cache to go stale nor a buffer for DDP to broadcast.

    Returns:
        (T, 1, K / 2, 2): the cosines and the sines of the angles, at least in fp32.
    """
    real = at_least_fp32(x_BTD.dtype)
    position_T = torch.arange(x_BTD.shape[1], device=x_BTD.device, dtype=real)
    pair_K = torch.arange(0, head_size, 2, device=x_BTD.device, dtype=real)
    angle_TK = torch.outer(position_T, theta ** (-pair_K / head_size))
    return torch.stack((angle_TK.cos(), angle_TK.sin()), -1).unsqueeze(1)


def rotate(x_BTHK: Tensor, rotation_T1K2: Tensor) -> Tensor:
    """Turn neighbouring pairs of features by the token's rotation.

    On a CPU as a product of complex numbers, which is ten times as fast there as strided reals;
    elsewhere in reals, of which a compiler makes one kernel.
    """
    if x_BTHK.device.type == "cpu" and not torch.compiler.is_compiling():
        y_BTHK: Tensor = ComplexRotation.apply(x_BTHK, rotation_T1K2)  # type: ignore[no-untyped-call]
        return y_BTHK
    a, b = torch.unflatten(x_BTHK.to(rotation_T1K2.dtype), -1, (-1, 2)).unbind(-1)
    cosine, sine = rotation_T1K2.unbind(-1)
    turned_BTHK2 = torch.stack((a * cosine - b * sine, a * sine + b * cosine), -1)
    return turned_BTHK2.flatten(-2).to(x_BTHK.dtype)


class ComplexRotation(torch.autograd.Function):
    """`rotate`; its transpose turns back. The derivative of torch's views makes more copies."""

    @staticmethod
    def forward(ctx: Any, x_BTHK: Tensor, rotation_T1K2: Tensor) -> Tensor:
        ctx.save_for_backward(rotation_T1K2)
        return _turned(x_BTHK, torch.view_as_complex(rotation_T1K2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BTHK: Tensor) -> tuple[Tensor, None]:
        (rotation_T1K2,) = ctx.saved_tensors
        back_T1K = torch.view_as_complex(rotation_T1K2).conj().resolve_conj()
        return _turned(grad_BTHK, back_T1K), None


def _turned(x_BTHK: Tensor, rotation_T1K: Tensor) -> Tensor:
    """The product with complex numbers; K of x is twice that of the rotation."""
    wide_BTHK = x_BTHK.to(rotation_T1K.real.dtype, memory_format=torch.contiguous_format)
    complex_BTHK = torch.view_as_complex(torch.unflatten(wide_BTHK, -1, (-1, 2)))
    turned_BTHK2 = torch.view_as_real(complex_BTHK * rotation_T1K)
    return turned_BTHK2.flatten(-2).to(x_BTHK.dtype)


def causal_attention(q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor) -> Tensor:
    """`softmax(Q K' / sqrt(K)) V`, each token over itself and those before it; (B, H, T, K)."""
    if runs_in_blocks(q_BHTK):
        y_BHTK: Tensor = BlockedAttention.apply(q_BHTK, k_BHTK, v_BHTK)  # type: ignore[no-untyped-call]
        return y_BHTK
    return F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, is_causal=True)


def runs_in_blocks(q_BHTK: Tensor) -> bool:
    """Whether attention runs in blocks of queries: a matter of device and dtype only."""
    if q_BHTK.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return q_BHTK.dtype in CPU_DTYPES_IN_BLOCKS


class LogitMeter:
    """The largest attention logit of each head since it was last taken."""

    # Rows of the matrix of logits that are in memory at once.
    ROWS = 128

    def __init__(self, num_heads: int) -> None:
        self.largest_H = torch.zeros(num_heads)

    @torch.no_grad()
    def measure(self, q_BHTK: Tensor, k_BHTK: Tensor) -> None:
        """`max q.k / sqrt(K)` over sequences and pairs of tokens of which one sees the other.

        A second product of queries and keys: attention's own kernels do not tell. Values that are
        not finite are passed over; then the step is skipped anyway.
        """
        self.largest_H = self.largest_H.to(q_BHTK.device)
        q_BHTK = q_BHTK * q_BHTK.shape[-1] ** -0.5
        for start in range(0, q_BHTK.shape[2], self.ROWS):
            rows_BHRK = q_BHTK[:, :, start : start + self.ROWS]
            stop = start + rows_BHRK.shape[2]
            logits_BHRT = rows_BHRK @ k_BHTK[:, :, :stop].transpose(-1, -2)
            seen_RT = torch.ones_like(logits_BHRT[0, 0], dtype=torch.bool).tril_(start)
            found_H = logits_BHRT.masked_fill(~seen_RT, 0.0).amax((0, 2, 3)).float()
            found_H = torch.where(found_H.isfinite(), found_H, 0.0)
            self.largest_H = torch.maximum(self.largest_H, found_H)

    def take(self) -> Tensor:
        """(H,), at least 0; it begins anew."""
        taken_H, self.largest_H = self.largest_H, torch.zeros_like(self.largest_H)
        return taken_H


class Attention(nn.Module):
    """Causal multi-head self-attention with rotary position embeddings.

    `qkv.weight` is (3 D, D), that is (out, in): the rows are all queries, then all keys, then
    all values, each by head. `output.weight` is (D, D), (out, in).
    """

    def __init__(self, hidden_size: int, *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        self.output = nn.Linear(hidden_size, hidden_size, bias=False)
        self.meter: LogitMeter | None = None

    def forward(self, x_BTD: Tensor, rotation_T1K2: Tensor) -> Tensor:
        qkv_BTHK = torch.unflatten(self.qkv(x_BTD), -1, (3 * self.num_heads, -1))
        qk_BTHK, v_BTHK = torch.split(qkv_BTHK, [2 * self.num_heads, self.num_heads], dim=2)
        q_BTHK, k_BTHK = rotate(qk_BTHK, rotation_T1K2).chunk(2, dim=2)
        if self.meter is not None and torch.is_grad_enabled():
            self.meter.measure(q_BTHK.detach().transpose(1, 2), k_BTHK.detach().transpose(1, 2))
        y_BHTK = causal_attention(
            q_BTHK.transpose(1, 2), k_BTHK.transpose(1, 2), v_BTHK.transpose(1, 2)
        )
        y: Tensor = self.output(y_BHTK.transpose(1, 2).flatten(-2))
        return y
