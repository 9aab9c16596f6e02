"""The way of the tokens to their experts and back: a permutation, a copy, and a weighed sum.

Shape suffixes: N tokens, D features, K experts per token, A = N * K assignments sorted by expert.

All ways are gathers, which have one writer for each element: faster than an atomic scatter, and the
same bits in every run. Nothing here needs to know on the host how many tokens an expert got.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


class Dispatch(NamedTuple):
    """A permutation of the assignments that brings each expert's together."""

    token_A: Tensor
    """The token of each assignment, in the order of experts."""
    position_NK: Tensor
    """Where each token's k-th assignment lies in that order."""


def plan_dispatch(expert_NK: Tensor) -> Dispatch:
    """Sort the assignments by expert once; an expert sees its tokens in their order."""
    num_tokens, experts_per_token = expert_NK.shape
    order_A = expert_NK.flatten().argsort(stable=True)
    position_A = torch.empty_like(order_A)
    position_A[order_A] = torch.arange(len(order_A), device=order_A.device)
    return Dispatch(
        token_A=order_A // experts_per_token,
        position_NK=position_A.view(num_tokens, experts_per_token),
    )


def dispatch_tokens(x_ND: Tensor, dispatch: Dispatch) -> Tensor:
    """Copy each token to its assignments: `y[a] = x[token[a]]`."""
    y_AD: Tensor = DispatchTokens.apply(x_ND, *dispatch)  # type: ignore[no-untyped-call]
    return y_AD


def combine_tokens(x_AD: Tensor, weight_NK: Tensor, dispatch: Dispatch) -> Tensor:
    """Weigh and add each token's results: `y[n] = sum_k weight[n, k] x[position[n, k]]`.

    Products and sum are in the dtype of the weights, and so is the result: a router's weight that
    was kept in fp32 is not rounded to the experts' 16 bits.
    """
    y_ND: Tensor = CombineTokens.apply(x_AD, weight_NK, *dispatch)  # type: ignore[no-untyped-call]
    return y_ND


class DispatchTokens(torch.autograd.Function):
    """`dispatch_tokens`; its transpose is a plain sum over a token's assignments."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, token_A: Tensor, position_NK: Tensor) -> Tensor:
        ctx.save_for_backward(position_NK)
        return x_ND.index_select(0, token_A)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_AD: Tensor) -> tuple[Tensor, None, None]:
        (position_NK,) = ctx.saved_tensors
        return _sum_of_rows(grad_AD, position_NK, weight_NK=None), None, None


class CombineTokens(torch.autograd.Function):
    """`combine_tokens`; its transpose copies, weighs, and takes the products with the results."""

    @staticmethod
    def forward(
        ctx: Any, x_AD: Tensor, weight_NK: Tensor, token_A: Tensor, position_NK: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x_AD, weight_NK, token_A, position_NK)
        return _sum_of_rows(x_AD.to(weight_NK.dtype), position_NK, weight_NK=weight_NK)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x_AD, weight_NK, token_A, position_NK = ctx.saved_tensors
        weight_A = torch.empty_like(weight_NK).flatten()
        weight_A[position_NK.flatten()] = weight_NK.flatten()
        grad_AD = grad_ND.index_select(0, token_A)
        weight_grad_A = torch.linalg.vecdot(grad_AD, x_AD.to(grad_AD.dtype))
        x_grad_AD = grad_AD.mul_(weight_A.unsqueeze(1)).to(x_AD.dtype)
        return x_grad_AD, weight_grad_A[position_NK], None, None


def _sum_of_rows(x_AD: Tensor, position_NK: Tensor, *, weight_NK: Tensor | None) -> Tensor:
    """`y[n] = sum_k weight[n, k] x[position[n, k]]`, with weights 1 where there are none.

    On a CPU `embedding_bag` gathers, weighs and adds in one pass over memory. Elsewhere it is
    written out, which a compiler makes one kernel of.
    """
    if x_AD.device.type == "cpu" and not torch.compiler.is_compiling():
        x_AD = x_AD.contiguous()
        return F.embedding_bag(position_NK, x_AD, per_sample_weights=weight_NK, mode="sum")
    x_NKD = x_AD[position_NK]
    return (x_NKD if weight_NK is None else x_NKD * weight_NK.unsqueeze(2)).sum(1)
