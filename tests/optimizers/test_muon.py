"""Muon in one process. `torch.optim.Muon` and `torch.optim.AdamW` are the oracles."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import _muon

from optimizers import MuonSpec, TorchMuonSpec, build_optimizer, orthogonalize
from optimizers.specs import update_scale


def float32_newton_schulz(
    grad: Tensor, ns_coefficients: tuple[float, float, float], ns_steps: int, eps: float
) -> Tensor:
    """torch.optim.Muon's iteration, word for word but for the cast to bfloat16."""
    a, b, c = ns_coefficients
    x = grad.mT if grad.shape[0] > grad.shape[1] else grad
    x = x / x.norm().clamp(min=eps)
    for _ in range(ns_steps):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if grad.shape[0] > grad.shape[1] else x


def torch_muon(
    toy: Any, *, scale: str | None, momentum: float, nesterov: bool, weight_decay: float
) -> dict[str, Tensor]:
    """The matrices under torch.optim.Muon, the rest under torch.optim.AdamW; experts one by one."""
    named = toy.parameters()
    optimizers: list[torch.optim.Optimizer] = []
    views: list[tuple[str, int | None, Parameter]] = []
    for name, parameter in named.items():
        if "experts" in name:
            for index in range(parameter.shape[0]):
                views.append((name, index, Parameter(parameter.detach()[index].mT)))
        elif any(word in name for word in ("query", "output", "row")):
            views.append((name, None, Parameter(parameter.detach())))
    optimizers.append(
        torch.optim.Muon(
            [view for _, _, view in views],
            lr=0.02,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
            adjust_lr_fn=scale,
        )
    )
    rest = [p for name, p in named.items() if name not in {name for name, _, _ in views}]
    decayed = [p for p in rest if p.ndim >= 2]
    vectors = [p for p in rest if p.ndim < 2]
    for group, decay in ((decayed, 0.1), (vectors, 0.0)):
        optimizers.append(
            torch.optim.AdamW(group, lr=0.002, betas=(0.9, 0.95), weight_decay=decay, fused=True)
        )
    for step in toy.gradients(named, steps=5):
        for name, parameter in named.items():
            parameter.grad = step[name]
        for name, index, view in views:
            view.grad = step[name] if index is None else step[name][index].mT
        for optimizer in optimizers:
            optimizer.step()
    return {name: parameter.detach() for name, parameter in named.items()}


def relative(a: Tensor, b: Tensor, *, start: Tensor) -> float:
    """The difference relative to the distance travelled."""
    return float(((a - b).norm() / (b - start).norm()).detach())


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize(
    ("scale", "theirs"), [("original", None), ("match_rms", "match_rms_adamw")]
)
def test_several_steps_agree_with_torch_muon_in_float32(
    toy: Any, scale: str, theirs: str | None, nesterov: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_muon, "_zeropower_via_newtonschulz", float32_newton_schulz)
    spec = MuonSpec(lr=0.02, momentum=0.9, nesterov=nesterov, scale=scale, ns_dtype="fp32")
    expected = torch_muon(toy, scale=theirs, momentum=0.9, nesterov=nesterov, weight_decay=0.1)
    for name, weight in toy.trained(spec).items():
        assert relative(weight, expected[name], start=toy.parameters()[name]) < 2e-5, name


def test_several_steps_agree_with_torch_muon_within_the_error_of_its_bfloat16(toy: Any) -> None:
    expected = torch_muon(toy, scale=None, momentum=0.95, nesterov=True, weight_decay=0.1)
    for name, weight in toy.trained(MuonSpec(lr=0.02)).items():
        assert relative(weight, expected[name], start=toy.parameters()[name]) < 0.03, name


def test_the_peer_is_torch_muon_to_the_last_bit(toy: Any) -> None:
    expected = torch_muon(toy, scale=None, momentum=0.95, nesterov=True, weight_decay=0.1)
    for name, weight in toy.trained(TorchMuonSpec(lr=0.02)).items():
        assert torch.equal(weight, expected[name]), name


def test_heavy_ball_takes_the_steps_of_the_average(toy: Any) -> None:
    exact = {"ns_form": "standard", "ns_dtype": "fp32", "nesterov": False}
    expected = toy.trained(MuonSpec(lr=0.02, momentum_kind="ema", **exact))
    actual = toy.trained(MuonSpec(lr=0.02, momentum_kind="heavy_ball", **exact))
    for name, weight in actual.items():
        assert relative(weight, expected[name], start=toy.parameters()[name]) < 1e-4, name


@pytest.mark.parametrize(
    ("scale", "outputs", "inputs", "expected"),
    [
        ("original", 16, 4, 2.0),
        ("original", 4, 16, 1.0),
        ("match_rms", 4, 16, 0.8),
        ("spectral", 4, 16, 0.5),
        ("none", 4, 16, 1.0),
    ],
)
def test_the_scale_modes(scale: str, outputs: int, inputs: int, expected: float) -> None:
    assert update_scale(scale, outputs=outputs, inputs=inputs) == pytest.approx(expected)


def test_the_scale_of_experts_sees_outputs_and_inputs(toy: Any) -> None:
    named = {"w": (8, 32), "layers.0.experts.up": (2, 8, 32)}
    moved = {}
    for name in named:
        one = toy.parameters({name: named[name]})
        before = one[name].detach().clone()
        spec = MuonSpec(lr=1.0, weight_decay=0.0, scale="spectral")
        moved[name] = toy.train(build_optimizer(spec, one.items()), one, steps=1)[name] - before
    per_matrix = [moved["w"].norm(), *moved["layers.0.experts.up"].flatten(1).norm(dim=1)]
    assert [float(x / per_matrix[0]) for x in per_matrix] == pytest.approx([1, 4, 4], rel=0.2)


def test_a_fused_weight_is_orthogonalised_block_by_block(toy: Any) -> None:
    named = toy.parameters({"qkv.weight": (24, 8)})
    before = named["qkv.weight"].detach().clone()
    splits = [{"pattern": "qkv.*", "parts": 3}]
    spec = MuonSpec(lr=1.0, weight_decay=0.0, scale="none", splits=splits, ns_dtype="fp32")
    gradient = next(toy.gradients(named, steps=1))["qkv.weight"]
    after = toy.train(build_optimizer(spec, named.items()), named, steps=1)["qkv.weight"]
    blocks = orthogonalize(gradient.view(3, 8, 8)).view(24, 8)
    torch.testing.assert_close(before - after, blocks, rtol=0, atol=2e-5)
