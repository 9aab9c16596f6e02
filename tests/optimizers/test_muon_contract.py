"""What Muon promises whoever trains with it: gradients, state, counters, clipping, binding."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import Parameter

from optimizers import Fragment, Muon, MuonSpec, TorchMuonSpec, build_optimizer


def test_a_zero_gradient_from_rest_only_decays_the_weights(toy: Any) -> None:
    named = toy.parameters()
    before = {name: p.detach().clone() for name, p in named.items()}
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    for parameter in named.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in named.items():
        rate = 0.02 if optimizer.routes[list(named).index(name)].algorithm == "muon" else 0.002
        decay = 0.1 if parameter.ndim >= 2 else 0.0
        torch.testing.assert_close(parameter.detach(), before[name] * (1 - rate * decay))


@pytest.mark.parametrize("spec", [MuonSpec(lr=0.02), TorchMuonSpec(lr=0.02)], ids=lambda s: s.kind)
def test_a_missing_gradient_counts_as_zero(toy: Any, spec: MuonSpec | TorchMuonSpec) -> None:
    def run(missing: Callable[[Tensor], Tensor | None]) -> dict[str, Tensor]:
        named = toy.parameters()
        optimizer = build_optimizer(spec, named.items())
        toy.train(optimizer, named, steps=2)
        for name, parameter in named.items():
            if name in ("layers.0.experts.up", "embedding.weight"):
                parameter.grad = missing(parameter)
        optimizer.step()
        return {name: parameter.detach() for name, parameter in named.items()}

    absent, zero = run(lambda p: None), run(torch.zeros_like)
    assert all(torch.equal(absent[name], zero[name]) for name in absent)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["layers.0.experts.down", "layers.0.norm.weight"])
def test_a_non_finite_gradient_leaves_weights_and_state_untouched_and_is_counted(
    toy: Any, where: str, value: float
) -> None:
    named = toy.parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    toy.train(optimizer, named, steps=2)
    before = {name: p.detach().clone() for name, p in named.items()}
    state = optimizer.state_dict()["state"]
    grad = named[where].grad
    assert grad is not None
    grad.view(-1)[3] = value
    optimizer.step()
    assert all(torch.equal(named[name].detach(), before[name]) for name in named)
    for name, entry in optimizer.state_dict()["state"].items():
        assert all(torch.equal(entry[key], state[name][key]) for key in entry)
    assert optimizer.counters["skipped_steps"] == 1
    assert optimizer.counters["optimizer_steps"] == 2


def test_newton_schulz_runs_once_an_optimizer_step_for_every_matrix(toy: Any) -> None:
    named = toy.parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    toy.train(optimizer, named, steps=3)
    assert optimizer.counters["newton_schulz_steps"] == 3
    assert optimizer.counters["newton_schulz_calls"] == 3 * (3 + 4 + 4)
    assert optimizer.counters["bytes_sent"] == 0


def test_gradients_are_not_modified(toy: Any) -> None:
    named = toy.parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    before = next(toy.gradients(named, steps=1))
    for name, parameter in named.items():
        parameter.grad = before[name].clone()
    optimizer.step()
    for name, parameter in named.items():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, before[name])


def test_momentum_is_float32_under_bfloat16_weights() -> None:
    named = {"w": Parameter(torch.randn(4, 6, dtype=torch.bfloat16))}
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    named["w"].grad = torch.randn(4, 6, dtype=torch.bfloat16)
    optimizer.step()
    assert optimizer.state_dict()["state"]["w"]["momentum"].dtype == torch.float32
    assert named["w"].dtype == torch.bfloat16


def test_a_saved_state_continues_the_same_trajectory(toy: Any) -> None:
    spec = MuonSpec(lr=0.02)
    whole = toy.trained(spec, steps=5)
    named = toy.parameters()
    first = build_optimizer(spec, named.items())
    steps = list(toy.gradients(named, steps=5))
    for index, step in enumerate(steps):
        if index == 3:
            saved = first.state_dict()
            first = build_optimizer(spec, named.items())
            first.load_state_dict(saved)
        for name, parameter in named.items():
            parameter.grad = step[name]
        first.step()
    assert all(torch.equal(named[name].detach(), whole[name]) for name in named)
    assert first.counters["optimizer_steps"] == 5


def test_the_state_is_keyed_by_name_in_the_shape_of_the_parameter(toy: Any) -> None:
    named = toy.parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    toy.train(optimizer, named, steps=1)
    state = optimizer.state_dict()["state"]
    assert set(state) == set(named)
    assert set(state["layers.0.experts.up"]) == {"step", "momentum"}
    assert set(state["head.weight"]) == {"step", "exp_avg", "exp_avg_sq"}
    assert state["layers.0.experts.up"]["momentum"].shape == (4, 8, 20)


def test_a_state_of_another_model_is_refused(toy: Any) -> None:
    named = toy.parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    toy.train(optimizer, named, steps=1)
    saved = optimizer.state_dict()
    other = toy.parameters({"embedding.weight": (31, 8)})
    renamed = {**saved, "state": {"layers.9.weight": saved["state"]["layers.0.row.weight"]}}
    with pytest.raises(ValueError, match=r"names layers\.9\.weight, which this model"):
        build_optimizer(MuonSpec(lr=0.02), other.items()).load_state_dict(renamed)
    with pytest.raises(ValueError, match=r"has shape \(30, 8\), the parameter \(31, 8\)"):
        build_optimizer(MuonSpec(lr=0.02), other.items()).load_state_dict(saved)


def test_every_group_carries_its_name_and_its_initial_rate(toy: Any) -> None:
    optimizer = build_optimizer(MuonSpec(lr=0.02), toy.parameters().items())
    rates = {group["name"]: group["initial_lr"] for group in optimizer.param_groups}
    assert rates == pytest.approx({"adamw_decay": 0.002, "muon": 0.02, "adamw_no_decay": 0.002})
    separate = build_optimizer(MuonSpec(lr=0.02, aux_lr=0.5), toy.parameters().items())
    assert {group["lr"] for group in separate.param_groups} == {0.02, 0.5}


def test_the_rate_of_the_group_is_what_the_step_uses(toy: Any) -> None:
    named = toy.parameters()
    before = {name: p.detach().clone() for name, p in named.items()}
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * 0.0
    toy.train(optimizer, named, steps=1)
    assert all(torch.equal(named[name].detach(), before[name]) for name in named)


def test_the_choice_of_form_and_dtype_is_reported_for_every_shape(toy: Any) -> None:
    named = toy.parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    toy.train(optimizer, named, steps=1)
    assert isinstance(optimizer, Muon)
    assert set(optimizer.computations) == {(24, 8), (8, 8), (8, 20), (20, 8), (1, 8)}
    assert all(choice.reason for choice in optimizer.computations.values())


def test_a_schedule_that_is_too_short_is_refused_in_the_specification() -> None:
    with pytest.raises(ValidationError, match="'you' has 5 steps, got num_steps = 10"):
        MuonSpec(lr=0.02, schedule="you", num_steps=10)
    with pytest.raises(ValidationError, match="unknown Newton-Schulz schedule 'jordon'"):
        MuonSpec(lr=0.02, schedule="jordon")


def test_a_step_that_the_backend_skipped_is_counted(toy: Any) -> None:
    named = toy.parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    toy.train(optimizer, named, steps=1)
    optimizer.count_skipped_step()
    assert optimizer.counters["skipped_steps"] == 1
    assert optimizer.counters["optimizer_steps"] == 1


def test_the_backend_may_know_better_whether_gradients_are_finite(toy: Any) -> None:
    named = toy.parameters()
    before = {name: p.detach().clone() for name, p in named.items()}
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    optimizer.bind(gradients_are_finite=lambda: False)
    toy.train(optimizer, named, steps=2)
    assert all(torch.equal(named[name].detach(), before[name]) for name in named)
    assert optimizer.counters["skipped_steps"] == 2


def test_clipping_is_that_of_torch_and_acts_on_the_raw_gradient(toy: Any) -> None:
    named, reference = toy.parameters(), toy.parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    step = next(toy.gradients(named, steps=1))
    for name in named:
        named[name].grad, reference[name].grad = step[name].clone(), step[name].clone()
    norm = optimizer.clip_gradients(0.5)
    expected = torch.nn.utils.clip_grad_norm_(list(reference.values()), 0.5)
    torch.testing.assert_close(norm, expected)
    for name in named:
        torch.testing.assert_close(named[name].grad, reference[name].grad)
    assert optimizer.clip_gradients(0.0) == pytest.approx(0.5, rel=1e-4)


def test_binding_after_the_first_step_is_refused(toy: Any) -> None:
    named = toy.parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    toy.train(optimizer, named, steps=1)
    with pytest.raises(ValueError, match="before its first step"):
        optimizer.bind()


def test_a_fragment_is_needed_for_every_parameter(toy: Any) -> None:
    named = toy.parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    fragments = [Fragment(name, 0, p.numel(), p) for name, p in named.items()]
    with pytest.raises(ValueError, match=r"must name every parameter once; check head\.weight"):
        optimizer.bind(fragments[:-1])


def test_replaced_parameters_without_new_fragments_are_refused(toy: Any) -> None:
    named = toy.parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    optimizer.param_groups[0]["params"] = [Parameter(torch.zeros(3))]
    with pytest.raises(ValueError, match=r"the backend replaced them, so call bind\(\)"):
        optimizer.step()


def test_local_gradients_cannot_be_replicated(toy: Any) -> None:
    optimizer = build_optimizer(MuonSpec(lr=0.02, exchange="replicated"), toy.parameters().items())
    with pytest.raises(ValueError, match="needs averaged gradients"):
        optimizer.bind(gradients="local")
