"""What every elementwise optimizer promises: counts, gradients, state, groups."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from small_weights import SHAPES, every_kind, gradients, parameters, train
from torch import Tensor
from torch.nn import Parameter

from optimizers import AdamWSpec, OptimizerSpec, ScheduleFreeSpec, build_optimizer
from optimizers.elementwise.specs import LionSpec, MarsSpec


@every_kind
def test_parameters_with_counts_of_their_own_keep_their_own_corrections(
    spec: OptimizerSpec,
) -> None:
    old, new = parameters(), parameters()
    aged = build_optimizer(spec, old.items())
    train(aged, old, steps=6)
    state = aged.state_dict()
    young = {"embedding.weight", "norm.weight"}
    mixed = {name: new[name] if name in young else old[name] for name in SHAPES}
    expected = {name: Parameter(p.detach().clone()) for name, p in mixed.items()}
    optimizer = build_optimizer(spec, mixed.items())
    kept = {name: entry for name, entry in state["state"].items() if name not in young}
    optimizer.load_state_dict({**state, "state": kept})
    restarted = build_optimizer(spec, [(name, expected[name]) for name in SHAPES])
    restarted.load_state_dict({**state, "state": {}})
    continued = build_optimizer(spec, [(name, expected[name]) for name in SHAPES])
    continued.load_state_dict(state)
    found = next(gradients(seed=9))
    for name in SHAPES:
        mixed[name].grad = found[name].clone()
    optimizer.step()
    for one, names in ((restarted, young), (continued, set(SHAPES) - young)):
        before = {name: p.detach().clone() for name, p in expected.items()}
        for name in SHAPES:
            expected[name].grad = found[name].clone()
        one.step()
        for name in names:
            torch.testing.assert_close(mixed[name], expected[name], rtol=1e-12, atol=1e-12)
        with torch.no_grad():
            for name, p in expected.items():
                p.copy_(before[name])


@every_kind
def test_a_missing_gradient_counts_as_zero(spec: OptimizerSpec) -> None:
    def run(missing: Callable[[Tensor], Tensor | None]) -> dict[str, Tensor]:
        named = parameters()
        optimizer = build_optimizer(spec, named.items())
        train(optimizer, named, steps=3)
        for name in ("experts.up", "scalar"):
            named[name].grad = missing(named[name])
        optimizer.step()
        return {name: p.detach() for name, p in named.items()}

    absent, zero = run(lambda p: None), run(torch.zeros_like)
    assert all(torch.equal(absent[name], zero[name]) for name in SHAPES)


@every_kind
def test_a_gradient_that_is_not_finite_leaves_weights_and_state_untouched(
    spec: OptimizerSpec,
) -> None:
    named = parameters()
    optimizer = build_optimizer(spec, named.items())
    train(optimizer, named, steps=3)
    before = {name: p.detach().clone() for name, p in named.items()}
    state = optimizer.state_dict()["state"]
    assert named["experts.up"].grad is not None
    named["experts.up"].grad[1, 2, 3] = float("inf")
    optimizer.step()
    assert all(torch.equal(named[name].detach(), before[name]) for name in SHAPES)
    for name, entry in optimizer.state_dict()["state"].items():
        assert all(torch.equal(entry[key], state[name][key]) for key in entry)
    assert optimizer.counters["skipped_steps"] == 1


@every_kind
def test_zero_gradients_from_rest_only_decay_the_weights(spec: OptimizerSpec) -> None:
    if isinstance(spec, ScheduleFreeSpec):  # it decays z, and trains between z and its average
        spec = spec.model_copy(update={"weight_decay": 0.0})
    named = parameters()
    optimizer = build_optimizer(spec, named.items())
    for _ in range(3):
        for parameter in named.values():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    for name, start in parameters().items():
        decay = spec.weight_decay if start.ndim >= 2 else 0.0  # type: ignore[attr-defined]
        torch.testing.assert_close(named[name], start * (1 - 0.02 * decay) ** 3)


@every_kind
def test_gradients_are_not_modified(spec: OptimizerSpec) -> None:
    named = parameters()
    optimizer = build_optimizer(spec, named.items())
    for found in (next(gradients(seed=1)), next(gradients(seed=2))):
        for name, parameter in named.items():
            parameter.grad = found[name].clone()
        optimizer.step()
        for name, parameter in named.items():
            assert parameter.grad is not None
            assert torch.equal(parameter.grad, found[name])


@every_kind
def test_a_saved_state_continues_the_same_trajectory(spec: OptimizerSpec) -> None:
    whole, named = parameters(), parameters()
    for parameters_, resumes in ((whole, False), (named, True)):
        optimizer = build_optimizer(spec, parameters_.items())
        for step, found in zip(range(6), gradients(), strict=False):
            if resumes and step == 3:
                saved = optimizer.state_dict()
                optimizer = build_optimizer(spec, parameters_.items())
                optimizer.load_state_dict(saved)
            for name, parameter in parameters_.items():
                parameter.grad = found[name].clone()
            optimizer.step()
    assert all(torch.equal(named[name], whole[name]) for name in SHAPES)


@every_kind
def test_bfloat16_weights_are_trained(spec: OptimizerSpec) -> None:
    named = {"w": Parameter(torch.ones(4, 6, dtype=torch.bfloat16))}
    optimizer = build_optimizer(spec, named.items())
    for _ in range(3):
        named["w"].grad = torch.ones(4, 6, dtype=torch.bfloat16)
        optimizer.step()
    assert named["w"].dtype == torch.bfloat16
    assert bool((named["w"] < 1.0).all())


def test_adamw_without_the_mask_is_the_fused_one_and_dumps_no_mask() -> None:
    spec = AdamWSpec(lr=0.02)
    assert "cautious" not in spec.model_dump()
    assert type(build_optimizer(spec, parameters().items())).__name__ == "AdamW"
    assert AdamWSpec(lr=0.02, cautious=True).model_dump()["cautious"] is True


def test_a_mask_of_one_element_in_many_is_bounded() -> None:
    wide = {"w": Parameter(torch.zeros(100, 100, dtype=torch.float64))}
    optimizer = build_optimizer(LionSpec(lr=1.0, weight_decay=0.0, cautious=True), wide.items())
    wide["w"].grad = torch.zeros_like(wide["w"])
    wide["w"].grad[3, 4] = 1.0
    optimizer.step()
    moved = wide["w"].detach()
    assert float(moved[3, 4]) == pytest.approx(-1000.0)
    assert int((moved != 0).sum()) == 1


def test_mars_leaves_vectors_to_adamw_at_half_its_rate() -> None:
    optimizer = build_optimizer(MarsSpec(lr=0.02), parameters().items())
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {"mars_decay": 0.02, "adamw_no_decay": 0.01}
    named = build_optimizer(MarsSpec(lr=0.02, lr_1d=0.3), parameters().items())
    assert named.param_groups[-1]["lr"] == 0.3
