"""The parts that every transformer has: norm, attention, feed-forward, and the head with its loss.

Shape suffixes: B sequences, T tokens of a sequence, N = B * T tokens, D hidden size, H heads,
K head size, F feed-forward size, V vocabulary, C = tokens of one chunk.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Logits that exist at a time. On a CPU 2^21 fp32 numbers are 8 MiB, which a last-level cache holds;
# from 2^20 to 2^22 the time was the same, below and above it rose. A GPU wants larger products.
CPU_LOGITS_PER_CHUNK = 2**21
GPU_LOGITS_PER_CHUNK = 2**27


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


def rotary_rotations(x_BTD: Tensor, *, head_size: int, theta: float) -> Tensor:
    """The unit complex numbers by which rotary embeddings turn position t (arXiv 2104.09864).

    `r[t, j] = exp(i t theta^(-2j / head_size))`. They are made anew for every batch: it is a few
    microseconds, and there is neither a cache to go stale nor a buffer for DDP to broadcast.

    Returns:
        (T, 1, K / 2) complex.
    """
    real = at_least_fp32(x_BTD.dtype)
    position_T = torch.arange(x_BTD.shape[1], device=x_BTD.device, dtype=real)
    pair_K = torch.arange(0, head_size, 2, device=x_BTD.device, dtype=real)
    angle_TK = torch.outer(position_T, theta ** (-pair_K / head_size))
    return torch.polar(torch.ones_like(angle_TK), angle_TK).unsqueeze(1)


def rotate(x_BTHK: Tensor, rotation_T1K: Tensor) -> Tensor:
    """Turn neighbouring pairs of features, seen as complex numbers, by the token's rotation."""
    real_dtype = rotation_T1K.real.dtype
    pairs_BTHK2 = torch.unflatten(x_BTHK.to(real_dtype), -1, (-1, 2))
    turned = torch.view_as_complex(pairs_BTHK2) * rotation_T1K
    return torch.view_as_real(turned).flatten(-2).to(x_BTHK.dtype)


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

    def forward(self, x_BTD: Tensor, rotation_T1K: Tensor) -> Tensor:
        qkv_BTHK = torch.unflatten(self.qkv(x_BTD), -1, (3 * self.num_heads, -1))
        qk_BTHK, v_BTHK = torch.split(qkv_BTHK, [2 * self.num_heads, self.num_heads], dim=2)
        q_BTHK, k_BTHK = rotate(qk_BTHK, rotation_T1K).chunk(2, dim=2)
        y_BHTK = F.scaled_dot_product_attention(
            q_BTHK.transpose(1, 2), k_BTHK.transpose(1, 2), v_BTHK.transpose(1, 2), is_causal=True
        )
        y: Tensor = self.output(y_BHTK.transpose(1, 2).flatten(-2))
        return y


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


class Head(nn.Module):
    """The projection to the vocabulary, and the cross-entropy without the (N, V) logits.

    `weight` is (V, D), (out, in), and is the embedding's own where the two are tied.
    """

    def __init__(self, hidden_size: int, *, vocab_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, hidden_size))
        nn.init.normal_(self.weight, std=0.02)

    def forward(
        self, x_BTD: Tensor, targets_BT: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The logits (B, T, V), or with targets the mean cross-entropy and the number correct."""
        if targets_BT is None:
            return F.linear(x_BTD, self.weight)
        dtype = autocast_dtype(x_BTD)
        cross_entropy, num_correct = LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
            x_BTD.flatten(0, 1).to(dtype),
            self.weight.to(dtype),
            targets_BT.flatten(),
            torch.is_grad_enabled(),
        )
        return cross_entropy, num_correct


class LinearCrossEntropy(torch.autograd.Function):
    """`mean_n(-log softmax(W x_n)[target_n])`, with the gradients made in the forward pass.

    The logits are the largest tensor of a small model. They are made a chunk of tokens at a
    time and turned at once into the gradients of x and W, which are only scaled by the incoming
    gradient in the backward pass (as in Liger Kernel, arXiv 2410.10989, section 3.2).
    """

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, weight_VD: Tensor, target_N: Tensor, with_gradients: bool
    ) -> tuple[Tensor, Tensor]:
        dtype = at_least_fp32(x_ND.dtype)
        on_cpu = x_ND.device.type == "cpu"
        logits_per_chunk = CPU_LOGITS_PER_CHUNK if on_cpu else GPU_LOGITS_PER_CHUNK
        chunk_size = max(1, logits_per_chunk // len(weight_VD))
        total = x_ND.new_zeros((), dtype=dtype)
        num_correct = torch.zeros((), dtype=torch.int64, device=x_ND.device)
        if with_gradients:
            x_grad_ND, weight_grad_VD = torch.empty_like(x_ND), torch.zeros_like(weight_VD)
        for start in range(0, len(x_ND), chunk_size):
            chunk = slice(start, start + chunk_size)
            target_C1 = target_N[chunk].unsqueeze(1)
            logits_CV = (x_ND[chunk] @ weight_VD.t()).to(dtype)
            likeliest_C1 = _argmax(logits_CV)
            num_correct += (likeliest_C1 == target_C1).sum()
            largest_C1 = logits_CV.gather(1, likeliest_C1)
            target_logit_C1 = logits_CV.gather(1, target_C1) - largest_C1
            # In place from here on: the logits become the numerators of the softmax, then
            # d loss / d logits = (softmax - one_hot(target)) / N.
            exponential_CV = logits_CV.sub_(largest_C1).exp_()
            sum_C1 = exponential_CV.sum(1, keepdim=True)
            total += (sum_C1.log() - target_logit_C1).sum()
            if with_gradients:
                grad_CV = exponential_CV.div_(sum_C1.mul_(len(x_ND)))
                minus_one_C1 = grad_CV.new_full((), -1 / len(x_ND)).expand_as(target_C1)
                grad_CV = grad_CV.scatter_add_(1, target_C1, minus_one_C1).to(x_ND.dtype)
                torch.mm(grad_CV, weight_VD, out=x_grad_ND[chunk])
                # Not addmm_, which torch.utils.flop_counter does not know.
                torch.addmm(weight_grad_VD, grad_CV.t(), x_ND[chunk], out=weight_grad_VD)
        if with_gradients:
            ctx.save_for_backward(x_grad_ND, weight_grad_VD)
        ctx.mark_non_differentiable(num_correct)
        return total / len(x_ND), num_correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x_grad_ND, weight_grad_VD = ctx.saved_tensors
        return x_grad_ND * grad, weight_grad_VD * grad, None, None


def _argmax(logits_CV: Tensor) -> Tensor:
    """`logits_CV.argmax(1, keepdim=True)`, but twice as fast on a CPU.

    There `argmax` takes four times as long as `amax`, so: the largest of each 64 neighbours first,
    then the argmax over these, then within the 64 that have the largest.
    """
    group = math.gcd(logits_CV.shape[1], 64)
    if logits_CV.device.type != "cpu" or group < 32:
        return logits_CV.argmax(1, keepdim=True)
    grouped_CVg = torch.unflatten(logits_CV, 1, (-1, group))
    best_C1 = grouped_CVg.amax(2).argmax(1, keepdim=True)
    best_Cg = grouped_CVg.take_along_dim(best_C1.unsqueeze(2), 1).squeeze(1)
    index_C1: Tensor = best_C1 * group + best_Cg.argmax(1, keepdim=True)
    return index_C1
