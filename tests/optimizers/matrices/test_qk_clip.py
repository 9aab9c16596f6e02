"""QK-clip scales the queries and keys of heads whose logits are too large, and nothing else."""

from __future__ import annotations

import pytest
import torch
from pytorch_optimizer.optimizer.muon import MuonClip
from torch import Tensor
from torch.nn import Parameter

from optimizers import Fragment, Muon, MuonSpec, build_optimizer
from optimizers.matrices.qk_clip import clip_queries_and_keys

D, H = 8, 2
LOGITS = torch.tensor([400.0, 50.0])


def fused() -> Tensor:
    return torch.randn(3 * D, D, generator=torch.Generator().manual_seed(0))


def stepped(**options: object) -> Tensor:
    weight = Parameter(fused())
    optimizer = build_optimizer(
        MuonSpec.model_validate({"lr": 0.02, **options}), [("a.qkv.weight", weight)]
    )
    assert isinstance(optimizer, Muon)
    if "qk_clip" in options:
        optimizer.measure_by({"a.qkv.weight": LOGITS.clone})
    weight.grad = fused().flip(0)
    optimizer.step()
    return weight.detach()


def test_a_step_is_muons_and_then_the_scale_of_the_library() -> None:
    plain, clipped = stepped(), stepped(qk_clip=100.0)
    query, key, value = (Parameter(part.clone()) for part in plain.chunk(3))
    groups = [
        {"params": [part], "use_muon": True, "qk_clip": role, "attention_name": "a"}
        for role, part in (("query", query), ("key", key))
    ]
    peer = MuonClip([*groups, {"params": [value], "use_muon": True}], lr=0.0)
    for part in (query, key, value):
        part.grad = torch.zeros_like(part)
    peer.step(attention_max_logits={"a": LOGITS})
    torch.testing.assert_close(clipped, torch.cat([query, key, value]).detach())
    # By hand: the first head's logit is four times the bound, so that each side is halved.
    assert torch.equal(clipped[: D // H], 0.5 * plain[: D // H])
    assert torch.equal(clipped[D // H : D], plain[D // H : D])
    assert torch.equal(clipped[2 * D :], plain[2 * D :])


def test_a_part_of_a_weight_is_scaled_as_in_the_whole() -> None:
    whole = fused()
    measured = {"w": LOGITS.clone}
    fragment = Fragment("w", 0, 3 * D * D, whole)
    clip_queries_and_keys([fragment], [(3 * D, D)], measured, bound=100.0, workers=1)
    for start, stop in ((0, 5), (5, 77), (77, 100), (100, 3 * D * D), (30, 30)):
        part = fused().view(-1)[start:stop].clone()
        fragment = Fragment("w", start, stop, part)
        clip_queries_and_keys([fragment], [(3 * D, D)], measured, bound=100.0, workers=1)
        assert torch.equal(part, whole.view(-1)[start:stop])


def test_without_a_measurement_or_a_weight_of_muons_it_refuses() -> None:
    weight = Parameter(fused())
    weight.grad = fused()
    optimizer = build_optimizer(MuonSpec(lr=0.02, qk_clip=100.0), [("a.qkv.weight", weight)])
    assert isinstance(optimizer, Muon)
    with pytest.raises(ValueError, match="call measure_by"):
        optimizer.step()
    with pytest.raises(ValueError, match=r"and b\.qkv\.weight is measured: route them to muon"):
        optimizer.measure_by({"b.qkv.weight": LOGITS.clone})
    assert "qk_clip" not in MuonSpec(lr=0.02).model_dump()
