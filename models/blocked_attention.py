"""Causal attention in blocks of queries, by batched products: what a CPU is fastest at.

Shape suffixes: B sequences, H heads, G = B * H, T tokens, K head size, n queries of a block, e keys
that they may see, which are all up to the block's last.

For a block of queries against the keys up to its end,

    P = softmax(scale Q K' + mask),   y = P V

and backward, with P made again instead of kept,

    dP = dy V',   dS = P * (dP - rowsum(P * dP)),
    dQ = scale dS K,   dK += scale dS' Q,   dV += P' dy.

A few heads at a time, so that P stays in the cache between its products, in memory allocated
once: a fresh allocation of this size costs as much in page faults as the product that fills it.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# 64 and 128 took the same time at 512 tokens and more; shorter sequences are one block.
QUERIES_PER_BLOCK = 128
# Probabilities that exist at a time: 2 MiB in bf16. With AMX a step took 1.02 times as long with 1,
# and the same with 4 MiB.
PROBABILITIES_AT_A_TIME = 2**20


class BlockedAttention(torch.autograd.Function):
    """`softmax(Q K' / sqrt(K)) V` over the tokens up to each query; all are (B, H, T, K).

    In bf16 the scores are rounded to bf16 before the softmax, as in attention without a fused
    kernel; the softmax itself and the sums of dK and dV over blocks are in fp32.
    """

    @staticmethod
    def forward(ctx: Any, q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor) -> Tensor:
        q_GTK, k_GTK, v_GTK = (x.reshape(-1, *x.shape[-2:]) for x in (q_BHTK, k_BHTK, v_BHTK))
        y_GTK = torch.empty_like(q_GTK)
        softmax = CausalSoftmax(q_GTK)
        for heads in softmax.groups_of_heads():
            q, k, v, y = (x[heads] for x in (q_GTK, k_GTK, v_GTK, y_GTK))
            for begin, end in softmax.blocks():
                p_Gne = softmax.probabilities(q[:, begin:end], k[:, :end])
                torch.bmm(p_Gne, v[:, :end], out=y[:, begin:end])
        ctx.save_for_backward(q_GTK, k_GTK, v_GTK)
        return y_GTK.view(q_BHTK.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BHTK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        inputs_GTK = ctx.saved_tensors
        grad_GTK = grad_BHTK.reshape(inputs_GTK[0].shape)
        softmax = CausalSoftmax(grad_GTK)
        total_dtype = torch.promote_types(grad_GTK.dtype, torch.float32)
        q_grad_GTK = torch.empty_like(grad_GTK)
        k_grad_GTK, v_grad_GTK = torch.zeros(2, *grad_GTK.shape, dtype=total_dtype).unbind()
        for heads in softmax.groups_of_heads():
            q, k, v, grad = (x[heads] for x in (*inputs_GTK, grad_GTK))
            q_grad, k_grad, v_grad = (x[heads] for x in (q_grad_GTK, k_grad_GTK, v_grad_GTK))
            for begin, end in softmax.blocks():
                block, seen = slice(begin, end), slice(0, end)
                p_Gne = softmax.probabilities(q[:, block], k[:, seen])
                s_grad_Gne = softmax.backward(p_Gne, grad[:, block], v[:, seen])
                _scaled_bmm(s_grad_Gne, k[:, seen], softmax.scale, out=q_grad[:, block])
                _add_bmm(k_grad[:, seen], s_grad_Gne.mT, q[:, block], softmax.scale)
                _add_bmm(v_grad[:, seen], p_Gne.mT, grad[:, block], 1.0)
        gradients = (q_grad_GTK, k_grad_GTK.to(grad.dtype), v_grad_GTK.to(grad.dtype))
        q_grad, k_grad, v_grad = (x.view(grad_BHTK.shape) for x in gradients)
        return q_grad, k_grad, v_grad


class CausalSoftmax:
    """The probabilities of one block after the other, in memory that is used again."""

    def __init__(self, x_GTK: Tensor) -> None:
        self.num_heads, self.num_tokens, head_size = x_GTK.shape
        self.scale = 1 / math.sqrt(head_size)
        largest_block = min(QUERIES_PER_BLOCK, self.num_tokens) * self.num_tokens
        self.heads_at_a_time = max(1, PROBABILITIES_AT_A_TIME // max(1, largest_block))
        size = min(self.heads_at_a_time, self.num_heads) * largest_block
        self._memory, self._gradient_memory = x_GTK.new_empty(size), x_GTK.new_empty(size)
        future = x_GTK.new_full((QUERIES_PER_BLOCK, QUERIES_PER_BLOCK), -math.inf)
        self._mask_nn = future.triu_(1)

    def groups_of_heads(self) -> Iterator[slice]:
        for first in range(0, self.num_heads, self.heads_at_a_time):
            yield slice(first, min(first + self.heads_at_a_time, self.num_heads))

    def blocks(self) -> Iterator[tuple[int, int]]:
        for begin in range(0, self.num_tokens, QUERIES_PER_BLOCK):
            yield begin, min(begin + QUERIES_PER_BLOCK, self.num_tokens)

    def probabilities(self, q_GnK: Tensor, k_GeK: Tensor) -> Tensor:
        """(G, n, e), valid until the next call. The last n keys are the queries' own tokens."""
        num_heads, n, _ = q_GnK.shape
        p_Gne = _first_of(self._memory, (num_heads, n, k_GeK.shape[1]))
        _scaled_bmm(q_GnK, k_GeK.mT, self.scale, out=p_Gne)
        p_Gne[:, :, -n:].add_(self._mask_nn[:n, :n])
        return torch.softmax(p_Gne, -1, out=p_Gne)

    def backward(self, p_Gne: Tensor, grad_GnK: Tensor, v_GeK: Tensor) -> Tensor:
        """The gradient of the masked scores, (G, n, e), valid until the next call."""
        grad_Gne = _first_of(self._gradient_memory, p_Gne.shape)
        torch.bmm(grad_GnK, v_GeK.mT, out=grad_Gne)
        torch.ops.aten._softmax_backward_data.out(
            grad_Gne, p_Gne, -1, p_Gne.dtype, grad_input=grad_Gne
        )
        return grad_Gne


def _first_of(memory: Tensor, shape: tuple[int, ...]) -> Tensor:
    return memory[: math.prod(shape)].view(shape)


def _scaled_bmm(a: Tensor, b: Tensor, scale: float, *, out: Tensor) -> None:
    torch.baddbmm(out, a, b, beta=0, alpha=scale, out=out)


def _add_bmm(total: Tensor, a: Tensor, b: Tensor, scale: float) -> None:
    """`total += scale a @ b`, where the total may be in a wider dtype than the product."""
    if total.dtype == a.dtype:
        torch.baddbmm(total, a, b, alpha=scale, out=total)
    else:
        total.add_(torch.bmm(a, b), alpha=scale)
