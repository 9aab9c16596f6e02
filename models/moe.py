"""The Mixture-of-Experts layer: a top-k router, the way of the tokens, and the stacked experts.

Shape suffixes: B sequences, T tokens of a sequence, N = B * T tokens, D hidden size, F inner size
of an expert, E experts, K experts per token, A = N * K assignments, sorted by expert.

No token is ever dropped: experts have no capacity, each takes the tokens that it is sent.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.layers import at_least_fp32, autocast_dtype


class RouterReport(NamedTuple):
    """How evenly the router sends the tokens of a batch."""

    load_balancing: Tensor
    """The load-balancing loss: 1 when every sequence uses all experts evenly."""
    z: Tensor
    """The router z-loss."""
    count_E: Tensor
    """Assignments that each expert received, int64."""


class Routing(NamedTuple):
    """Where the router sends the tokens of a batch."""

    expert_NK: Tensor
    """The experts of each token, the likeliest first."""
    weight_NK: Tensor
    """What each of them counts for in the token's output."""
    report: RouterReport


class Router(nn.Module):
    r"""Top-k softmax router. `weight` is (E, D), (out, in).

    `p = softmax(W x)`; a token goes to its k likeliest experts, which count for `p` divided by
    its sum over the k (Mixtral, arXiv 2401.04088), or for `p` itself when k = 1 (Switch
    Transformer, arXiv 2101.03961), since a constant 1 would leave the router without a gradient.

    The load-balancing loss is that of Switch, but of each *sequence*, averaged over sequences
    (DeepSeek-V3, arXiv 2412.19437, equation 17): `mean_b E sum_e f[b, e] P[b, e]`, with f the
    fraction of the sequence's assignments and P the mean probability. The loss of Switch is not
    linear in the batch, so its mean over workers would depend on the number of workers.

    The z-loss is `mean_n logsumexp(W x_n)^2` (ST-MoE, arXiv 2202.08906, equation 5).

    All of it is in fp32 whatever the autocast, as Switch found necessary (section 2.4).
    """

    def __init__(self, hidden_size: int, *, num_experts: int, experts_per_token: int) -> None:
        super().__init__()
        self.num_experts = num_experts
        self.experts_per_token = experts_per_token
        self.weight = nn.Parameter(torch.empty(num_experts, hidden_size))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x_BTD: Tensor) -> Routing:
        num_sequences, num_tokens, _ = x_BTD.shape
        dtype = at_least_fp32(x_BTD.dtype)
        with torch.autocast(x_BTD.device.type, enabled=False):
            logits_BTE = F.linear(x_BTD.to(dtype), self.weight.to(dtype))
        probability_BTE = logits_BTE.softmax(-1)
        top_BTK, expert_BTK = probability_BTE.topk(self.experts_per_token, dim=-1)
        if self.experts_per_token > 1:
            top_BTK = top_BTK / top_BTK.sum(-1, keepdim=True)

        sent_to_BA = expert_BTK.flatten(1)
        count_BE = sent_to_BA.new_zeros(num_sequences, self.num_experts)
        count_BE.scatter_add_(1, sent_to_BA, torch.ones_like(sent_to_BA))
        fraction_BE = count_BE.to(dtype) / (num_tokens * self.experts_per_token)
        products_BE = fraction_BE * probability_BTE.mean(1)
        report = RouterReport(
            load_balancing=self.num_experts * products_BE.sum(-1).mean(),
            z=logits_BTE.logsumexp(-1).square().mean(),
            count_E=count_BE.sum(0),
        )
        return Routing(expert_BTK.flatten(0, 1), top_BTK.flatten(0, 1), report)


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


class DispatchTokens(torch.autograd.Function):
    """Copy each token to its assignments: `y[a] = x[token[a]]`. Its transpose is a plain sum.

    Both ways are gathers, which have one writer for each element: faster than an atomic scatter,
    and the same bits in every run.
    """

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, dispatch: Dispatch) -> Tensor:
        ctx.save_for_backward(dispatch.position_NK)
        return x_ND.index_select(0, dispatch.token_A)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_AD: Tensor) -> tuple[Tensor, None]:
        (position_NK,) = ctx.saved_tensors
        return F.embedding_bag(position_NK, grad_AD.contiguous(), mode="sum"), None


class CombineTokens(torch.autograd.Function):
    """Weigh and add each token's results: `y[n] = sum_k weight[n, k] x[position[n, k]]`.

    `embedding_bag` gathers, weighs and adds in one pass over memory.
    """

    @staticmethod
    def forward(ctx: Any, x_AD: Tensor, weight_NK: Tensor, dispatch: Dispatch) -> Tensor:
        ctx.save_for_backward(x_AD, weight_NK, *dispatch)
        return F.embedding_bag(dispatch.position_NK, x_AD, per_sample_weights=weight_NK, mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor, Tensor, None]:
        x_AD, weight_NK, token_A, position_NK = ctx.saved_tensors
        weight_A = torch.empty_like(weight_NK).flatten()
        weight_A[position_NK.flatten()] = weight_NK.flatten()
        grad_AD = grad_ND.index_select(0, token_A)
        weight_grad_A = torch.linalg.vecdot(grad_AD, x_AD)
        return grad_AD.mul_(weight_A.unsqueeze(1)), weight_grad_A[position_NK], None


class Experts(nn.Module):
    """E feed-forward networks: `down(silu(up(x)))` or, gated, `down(silu(gate(x)) * up(x))`.

    `up` and `gate` are (E, D, F) and `down` is (E, F, D): each `[e]` is one matrix, and unlike
    `nn.Linear.weight` it is (in, out), used as `x @ up[e]`.
    """

    def __init__(self, hidden_size: int, *, inner_size: int, num_experts: int, gated: bool) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.empty(num_experts, hidden_size, inner_size))
        self.gate = nn.Parameter(torch.empty_like(self.up)) if gated else None
        self.down = nn.Parameter(torch.empty(num_experts, inner_size, hidden_size))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02)

    def forward(self, x_AD: Tensor, count_E: Tensor) -> Tensor:
        """Apply expert e to its `count_E[e]` consecutive rows."""
        dtype = autocast_dtype(x_AD)
        gate = None if self.gate is None else self.gate.to(dtype)
        y_AD: Tensor = GroupedFeedForward.apply(  # type: ignore[no-untyped-call]
            x_AD.to(dtype), self.up.to(dtype), gate, self.down.to(dtype), count_E.tolist()
        )
        return y_AD


class GroupedFeedForward(torch.autograd.Function):
    """Every expert on its own rows, each product written straight to its place.

    Autograd through `up[e]` would make a full-size zero gradient of all experts for each expert;
    here expert e's gradient is written into its slice. An expert without rows gets zeros, not
    None, so that DDP finds every parameter used. The activation is recomputed in the backward
    pass, while its expert's rows are in the cache, rather than kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_AD: Tensor,
        up_EDF: Tensor,
        gate_EDF: Tensor | None,
        down_EFD: Tensor,
        counts: list[int],
    ) -> Tensor:
        up_AF = x_AD.new_empty(len(x_AD), up_EDF.shape[2])
        gate_AF = None if gate_EDF is None else torch.empty_like(up_AF)
        y_AD = torch.empty_like(x_AD)
        experts = _each(counts, up_EDF, gate_EDF, down_EFD)
        rows = _rows(counts, x_AD, up_AF, gate_AF, y_AD)
        for (w_up, w_gate, w_down), (x, up, gate, y) in zip(experts, rows, strict=True):
            torch.mm(x, w_up, out=up)
            if gate is None:
                inner = F.silu(up)
            else:
                torch.mm(x, w_gate, out=gate)
                inner = F.silu(gate).mul_(up)
            torch.mm(inner, w_down, out=y)
        ctx.counts = counts
        ctx.save_for_backward(x_AD, up_EDF, gate_EDF, down_EFD, up_AF, gate_AF)
        return y_AD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_AD: Tensor) -> tuple[Tensor | None, ...]:
        x_AD, up_EDF, gate_EDF, down_EFD, up_AF, gate_AF = ctx.saved_tensors
        x_grad_AD = torch.empty_like(x_AD)
        weights = (up_EDF, gate_EDF, down_EFD)
        gradients = tuple(None if w is None else torch.empty_like(w) for w in weights)
        experts = _each(ctx.counts, *weights, *gradients)
        rows = _rows(ctx.counts, x_AD, up_AF, gate_AF, grad_AD, x_grad_AD)
        for weight, (x, up, gate, y_grad, x_grad) in zip(experts, rows, strict=True):
            w_up, w_gate, w_down, w_up_grad, w_gate_grad, w_down_grad = weight
            inner_grad = y_grad @ w_down.t()
            if gate is None:
                torch.mm(F.silu(up).t(), y_grad, out=w_down_grad)
                up_grad = torch.ops.aten.silu_backward(inner_grad, up)
                torch.mm(up_grad, w_up.t(), out=x_grad)
            else:
                activated = F.silu(gate)
                torch.mm((activated * up).t(), y_grad, out=w_down_grad)
                up_grad = activated.mul_(inner_grad)
                gate_grad = torch.ops.aten.silu_backward(inner_grad.mul_(up), gate)
                torch.mm(up_grad, w_up.t(), out=x_grad)
                torch.addmm(x_grad, gate_grad, w_gate.t(), out=x_grad)
                torch.mm(x.t(), gate_grad, out=w_gate_grad)
            torch.mm(x.t(), up_grad, out=w_up_grad)
        return x_grad_AD, *gradients, None


def _each(counts: list[int], *stacks: Tensor | None) -> Iterator[tuple[Any, ...]]:
    """Expert by expert, its matrix of each stack; None where there is no stack."""
    nothing = [None] * len(counts)
    return zip(*(nothing if stack is None else stack.unbind() for stack in stacks), strict=True)


def _rows(counts: list[int], *tensors: Tensor | None) -> Iterator[tuple[Any, ...]]:
    """Expert by expert, its rows of each tensor; None where there is no tensor."""
    nothing = [None] * len(counts)
    return zip(
        *(nothing if tensor is None else torch.split(tensor, counts) for tensor in tensors),
        strict=True,
    )


class MoE(nn.Module):
    """Route each token to k experts and add up what they return, weighed by the router."""

    def __init__(
        self,
        hidden_size: int,
        *,
        inner_size: int,
        gated: bool,
        num_experts: int,
        experts_per_token: int,
    ) -> None:
        super().__init__()
        self.router = Router(
            hidden_size, num_experts=num_experts, experts_per_token=experts_per_token
        )
        self.experts = Experts(
            hidden_size, inner_size=inner_size, num_experts=num_experts, gated=gated
        )

    def forward(self, x_BTD: Tensor) -> tuple[Tensor, RouterReport]:
        routing: Routing = self.router(x_BTD)
        dispatch = plan_dispatch(routing.expert_NK)
        x_ND = x_BTD.flatten(0, 1).to(autocast_dtype(x_BTD))
        x_AD = DispatchTokens.apply(x_ND, dispatch)  # type: ignore[no-untyped-call]
        y_AD = self.experts(x_AD, routing.report.count_E)
        y_ND: Tensor = CombineTokens.apply(y_AD, routing.weight_NK.to(y_AD.dtype), dispatch)  # type: ignore[no-untyped-call]
        return y_ND.view_as(x_BTD), routing.report
