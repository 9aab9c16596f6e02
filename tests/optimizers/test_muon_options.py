"""NorMuon and the step on the sphere: options of Muon, against the library's and the formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pytorch_optimizer import NorMuon
from torch import Tensor
from torch.nn import Parameter

from optimizers import MuonSpec, build_optimizer
from optimizers.matrices.hyperball import by_matrix

SHAPES = {"a.weight": (8, 20), "b.weight": (20, 8), "c.weight": (8, 8)}


def steps_of_both(
    toy: Any, spec: MuonSpec, peer_options: dict[str, Any]
) -> tuple[dict[str, Parameter], dict[str, Parameter]]:
    ours, theirs = toy.parameters(SHAPES), toy.parameters(SHAPES)
    optimizer = build_optimizer(spec, ours.items())
    peer = NorMuon(
        [{"params": list(theirs.values()), "use_muon": True}],
        lr=spec.lr,
        weight_decay=spec.weight_decay,
        **peer_options,
    )
    for gradients in toy.gradients(ours, steps=20):
        for named in (ours, theirs):
            for name, parameter in named.items():
                parameter.grad = gradients[name].clone()
        optimizer.step()
        peer.step()
    return ours, theirs


@pytest.mark.parametrize(
    ("scale", "peer_scale"), [("original", "preserve_norm"), ("match_rms", "match_rms")]
)
def test_normuon_takes_the_steps_of_the_library(
    toy: Any, scale: str, peer_scale: str, peer_in_float32: None
) -> None:
    spec = MuonSpec(lr=0.02, normuon=True, normuon_beta2=0.9, scale=scale, ns_dtype="fp32")  # type: ignore[arg-type]
    ours, theirs = steps_of_both(toy, spec, {"beta2": 0.9, "update_scale": peer_scale})
    start = toy.parameters(SHAPES)
    for name, parameter in ours.items():
        torch.testing.assert_close(parameter, theirs[name], rtol=0, atol=2e-5)
        assert (parameter - start[name]).norm() > 0.1


def test_a_neuron_of_an_expert_is_a_column(toy: Any) -> None:
    """Experts are stored as (inputs, outputs)."""
    named = toy.parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02, normuon=True), named.items())
    toy.train(optimizer, named, steps=2)
    state = optimizer.state_dict()["state"]
    assert state["layers.0.experts.up"]["second_moment"].shape == (4, 20)
    assert state["layers.0.experts.down"]["second_moment"].shape == (4, 8)
    assert state["layers.0.attention.query.weight"]["second_moment"].shape == (1, 24)
    assert "second_moment" not in state["head.weight"]


def test_normuon_evens_out_the_steps_of_neurons(toy: Any) -> None:
    """Tall matrices have rows of unequal size when orthogonal; over time they move alike."""

    def rows(normuon: bool) -> Tensor:
        weight = Parameter(torch.zeros(20, 4))
        generator = torch.Generator().manual_seed(0)
        spec = MuonSpec(lr=0.02, weight_decay=0.0, normuon=normuon, ns_dtype="fp32")
        optimizer = build_optimizer(spec, [("w", weight)])
        for _ in range(20):
            gradient = torch.randn(20, 4, generator=generator)
            gradient[:10] *= 0.1
            weight.grad = gradient
            before = weight.detach().clone()
            optimizer.step()
        return (weight.detach() - before).norm(dim=1)

    even, uneven = rows(True), rows(False)
    assert even.std() / even.mean() < 0.6 * uneven.std() / uneven.mean()


def on_the_sphere(weight: Tensor, update: Tensor, *, rate: float) -> Tensor:
    """Of whole matrices `(K, m, n)`, in float64, as the source writes it."""
    radius = torch.linalg.matrix_norm(weight, keepdim=True)
    moved = weight - rate * radius * update / torch.linalg.matrix_norm(update, keepdim=True)
    return radius * moved / torch.linalg.matrix_norm(moved, keepdim=True)


def test_a_step_on_the_sphere_is_muons_direction_at_the_norm_of_the_weight(toy: Any) -> None:
    spec = MuonSpec(lr=0.05, hyperball=True, ns_dtype="fp32")
    plain = MuonSpec(lr=1.0, weight_decay=0.0, scale="none", ns_dtype="fp32")
    ours, other = toy.parameters(), toy.parameters()
    optimizer, muon = (build_optimizer(s, n.items()) for s, n in ((spec, ours), (plain, other)))
    matrices = [r.name for r in optimizer.routes if r.algorithm == "muon"]
    start = {name: ours[name].detach().clone() for name in matrices}
    for gradients in toy.gradients(ours, steps=20):
        before = {name: ours[name].detach().double() for name in matrices}
        for name in ours:
            ours[name].grad, other[name].grad = gradients[name].clone(), gradients[name].clone()
        held = {name: other[name].detach().clone() for name in matrices}
        optimizer.step()
        muon.step()
        for name in matrices:
            update = (held[name] - other[name].detach()).double()
            expected = on_the_sphere(before[name], update, rate=0.05)
            torch.testing.assert_close(ours[name].detach(), expected.float(), rtol=0, atol=1e-5)
            other[name].data.copy_(held[name])
    for name in matrices:
        torch.testing.assert_close(
            torch.linalg.matrix_norm(ours[name].detach()), torch.linalg.matrix_norm(start[name])
        )


def test_a_starved_expert_stays_where_it_is_on_the_sphere() -> None:
    weight = Parameter(torch.ones(2, 4, 6))
    spec = MuonSpec(lr=0.05, hyperball=True, starved_matrices="skip")
    optimizer = build_optimizer(spec, [("l.experts.up", weight)])
    weight.grad = torch.stack([torch.randn(4, 6), torch.zeros(4, 6)])
    optimizer.step()
    torch.testing.assert_close(weight[1].detach(), torch.ones(4, 6))
    assert not torch.allclose(weight[0], torch.ones(4, 6))


def test_a_matrix_of_which_nothing_is_here_is_empty_on_the_device_of_the_others() -> None:
    """Its sum of squares, zero, is stacked with theirs."""
    device = torch.device("meta")
    weights = [torch.empty(3, device=device), torch.empty(5, device=device)]
    for tensors, sizes in ((weights, [0, 3, 0, 4, 1]), ([], [0, 0])):
        pieces = list(by_matrix(tensors, sizes, device=device))
        assert [piece.numel() for piece in pieces] == sizes
        assert all(piece.device == device for piece in pieces)


def test_options_at_their_default_leave_no_trace_in_the_dump() -> None:
    plain = MuonSpec(lr=0.02).model_dump(mode="json")
    assert not {"normuon", "normuon_beta2", "hyperball"} & set(plain)
    asked = MuonSpec(lr=0.02, normuon=True, hyperball=True).model_dump(mode="json")
    assert asked["normuon"]
    assert asked["hyperball"]
    assert MuonSpec.model_validate(asked) == MuonSpec(lr=0.02, normuon=True, hyperball=True)
