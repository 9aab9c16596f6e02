"""The Mixture-of-Experts layer: a top-k router, the way of the tokens, and the stacked experts.

Shape suffixes: B sequences, T tokens of a sequence, N = B * T tokens, D hidden size, F inner size
of an expert, E experts, K experts per token, A = N * K assignments, sorted by expert.

No token is ever dropped: experts have no capacity, each takes the tokens that it is sent.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.dispatch import combine_tokens, dispatch_tokens, plan_dispatch
from models.grouped import in_a_loop, in_grouped_products, runs_in_grouped_products
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
        self.in_a_loop = in_a_loop

    def forward(self, x_AD: Tensor, count_E: Tensor) -> Tensor:
        """Apply expert e to its `count_E[e]` consecutive rows."""
        x_AD = x_AD.to(autocast_dtype(x_AD))
        gate = None if self.gate is None else self.gate.to(x_AD.dtype)
        up, down = self.up.to(x_AD.dtype), self.down.to(x_AD.dtype)
        grouped = runs_in_grouped_products(x_AD, inner_size=up.shape[2])
        return (in_grouped_products if grouped else self.in_a_loop)(x_AD, up, gate, down, count_E)

    def leave_loop_uncompiled(self) -> None:
        """A compiler would make another graph of the loop for every batch: the counts differ."""
        self.in_a_loop = torch.compiler.disable(in_a_loop)  # type: ignore[no-untyped-call]


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
        y_AD = self.experts(dispatch_tokens(x_ND, dispatch), routing.report.count_E)
        y_ND = combine_tokens(y_AD, routing.weight_NK, dispatch)
        return y_ND.to(x_BTD.dtype).view_as(x_BTD), routing.report
