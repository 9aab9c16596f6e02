"""The same mathematics written plainly: every expert on every token, masked; plain autograd."""

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models import ModelConfig, ModelOutput, MoETransformer, initialize
from models.attention import Attention
from models.layers import FeedForward, RMSNorm
from models.moe import MoE


class DenseResult(NamedTuple):
    y_BTD: Tensor
    load_balancing: Tensor
    z: Tensor
    load_E: Tensor


def dense_moe(moe: MoE, x_BTD: Tensor) -> DenseResult:
    """Run all E experts on all tokens and mask those that a token is not sent to."""
    k, num_experts = moe.router.experts_per_token, moe.router.num_experts
    logits_BTE = x_BTD @ moe.router.weight.t()
    probability_BTE = torch.exp(logits_BTE) / torch.exp(logits_BTE).sum(-1, keepdim=True)
    threshold_BT1 = probability_BTE.sort(dim=-1, descending=True).values[..., k - 1 : k]
    mask_BTE = (probability_BTE >= threshold_BT1).to(x_BTD.dtype)
    weight_BTE = probability_BTE * mask_BTE
    if k > 1:
        weight_BTE = weight_BTE / weight_BTE.sum(-1, keepdim=True)

    experts = moe.experts
    up_BTEF = torch.einsum("btd,edf->btef", x_BTD, experts.up)
    if experts.gate is None:
        inner_BTEF = up_BTEF * torch.sigmoid(up_BTEF)
    else:
        gate_BTEF = torch.einsum("btd,edf->btef", x_BTD, experts.gate)
        inner_BTEF = gate_BTEF * torch.sigmoid(gate_BTEF) * up_BTEF
    y_BTED = torch.einsum("btef,efd->bted", inner_BTEF, experts.down)

    fraction_BE = mask_BTE.mean(1) / k
    return DenseResult(
        y_BTD=(weight_BTE.unsqueeze(-1) * y_BTED).sum(2),
        load_balancing=num_experts * (fraction_BE * probability_BTE.mean(1)).sum(-1).mean(),
        z=torch.log(torch.exp(logits_BTE).sum(-1)).square().mean(),
        load_E=mask_BTE.mean((0, 1)) / k,
    )


def plain_norm(norm: RMSNorm, x: Tensor) -> Tensor:
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + norm.epsilon) * norm.weight


def plain_rotate(x_BTHK: Tensor, *, theta: float) -> Tensor:
    """Position t turns the pair (2 j, 2 j + 1) by t theta^(-2j / K), written out in reals."""
    _, num_tokens, _, head_size = x_BTHK.shape
    turned = torch.empty_like(x_BTHK)
    for t in range(num_tokens):
        for j in range(0, head_size, 2):
            angle = t * theta ** (-j / head_size)
            a, b = x_BTHK[:, t, :, j], x_BTHK[:, t, :, j + 1]
            turned[:, t, :, j] = a * math.cos(angle) - b * math.sin(angle)
            turned[:, t, :, j + 1] = a * math.sin(angle) + b * math.cos(angle)
    return turned


def plain_attention(attention: Attention, x_BTD: Tensor, *, theta: float) -> Tensor:
    num_tokens, size = x_BTD.shape[1:]
    q, k, v = (
        (x_BTD @ rows.t()).view(-1, num_tokens, attention.num_heads, size // attention.num_heads)
        for rows in attention.qkv.weight.split(size)
    )
    q, k = plain_rotate(q, theta=theta), plain_rotate(k, theta=theta)
    scores = torch.einsum("bthk,bshk->bhts", q, k) / math.sqrt(q.shape[-1])
    future = torch.ones(num_tokens, num_tokens, dtype=torch.bool).triu(1)
    probabilities = scores.masked_fill(future, -math.inf).softmax(-1)
    y_BTHK = torch.einsum("bhts,bshk->bthk", probabilities, v)
    return y_BTHK.reshape(x_BTD.shape) @ attention.output.weight.t()


def plain_feed_forward(layer: FeedForward, x_BTD: Tensor) -> Tensor:
    up_BTF = x_BTD @ layer.up.weight.t()
    if layer.gate is None:
        return F.silu(up_BTF) @ layer.down.weight.t()
    return (F.silu(x_BTD @ layer.gate.weight.t()) * up_BTF) @ layer.down.weight.t()


def dense_transformer(model: MoETransformer, tokens: Tensor, targets: Tensor) -> ModelOutput:
    config = model.config
    x_BTD = model.embedding.weight[tokens]
    if config.scale_embeddings:
        x_BTD = x_BTD * config.hidden_size**0.5
    auxiliary_loss, loads = torch.zeros((), dtype=x_BTD.dtype), []
    for block in model.blocks:
        normed = plain_norm(block.attention_norm, x_BTD)
        x_BTD = x_BTD + plain_attention(block.attention, normed, theta=config.rope_theta)
        normed = plain_norm(block.feed_forward_norm, x_BTD)
        if isinstance(block.feed_forward, FeedForward):
            x_BTD = x_BTD + plain_feed_forward(block.feed_forward, normed)
            continue
        result = dense_moe(block.feed_forward, normed)
        x_BTD = x_BTD + result.y_BTD
        auxiliary_loss = auxiliary_loss + config.load_balancing_weight * result.load_balancing
        auxiliary_loss = auxiliary_loss + config.router_z_weight * result.z
        loads.append(result.load_E)
    logits_BTV = plain_norm(model.final_norm, x_BTD) @ model.head.weight.t()
    cross_entropy = F.cross_entropy(logits_BTV.flatten(0, 1), targets.flatten())
    return ModelOutput(
        loss=cross_entropy + auxiliary_loss,
        cross_entropy=cross_entropy,
        auxiliary_loss=auxiliary_loss,
        num_correct=(logits_BTV.argmax(-1) == targets).sum(),
        router_load=torch.stack(loads) if loads else torch.empty(0, config.num_experts),
    )


@pytest.fixture(name="dense_moe")
def _dense_moe() -> Callable[[MoE, Tensor], DenseResult]:
    return dense_moe


@pytest.fixture(name="dense_transformer")
def _dense_transformer() -> Callable[[MoETransformer, Tensor, Tensor], ModelOutput]:
    return dense_transformer


SMALL = {
    "hidden_size": 16,
    "num_layers": 2,
    "num_heads": 2,
    "feed_forward_size": 24,
    "num_experts": 4,
}


@pytest.fixture
def small_model() -> Callable[..., MoETransformer]:
    """Builds and initializes a small model; keywords override its fields."""

    def build(*, vocab_size: int = 50, seed: int = 0, **overrides: object) -> MoETransformer:
        fields = SMALL | overrides
        if fields.get("feed_forward") == "dense":
            del fields["num_experts"]
        model = MoETransformer(ModelConfig.model_validate(fields), vocab_size=vocab_size)
        initialize(model, seed=seed)
        return model

    return build


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Tokens and targets, 4 sequences of 12 tokens out of 50."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(50, (4, 13), generator=generator)
    return tokens[:, :-1], tokens[:, 1:]
