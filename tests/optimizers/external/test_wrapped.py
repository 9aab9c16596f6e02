"""A plain torch optimizer keeps our promises, and takes its own steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pytorch_optimizer import Lion
from schedulefree import AdamWScheduleFree
from torch import Tensor
from torch.nn import Parameter

from optimizers import ExternalSpec, ScheduleFreeSpec, build_optimizer
from optimizers.external.tree import Unsaveable, from_bytes, to_bytes

PATHS = {
    "torch.optim:AdamW": {},
    "torch.optim:ASGD": {},
    "pytorch_optimizer:Lion": {"betas": [0.9, 0.98]},
    "pytorch_optimizer:SOAP": {},  # states of other shapes than the weights, in lists
    "schedulefree:AdamWScheduleFree": {"warmup_steps": 2},  # a state of its groups
}
STEPS = 4


def spec(path: str, **settings: Any) -> ExternalSpec:
    return ExternalSpec(path=path, lr=0.01, settings={**PATHS.get(path, {}), **settings})


def copies(named: dict[str, Parameter]) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in named.items()}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def take(optimizer: torch.optim.Optimizer, named: dict[str, Parameter], steps: Any) -> None:
    for gradients in steps:
        for name, gradient in gradients.items():
            named[name].grad = gradient.clone()
        optimizer.step()


def test_it_takes_the_steps_of_the_other_optimizer_with_its_decay_on_matrices_only(
    toy: Any,
) -> None:
    here, there = toy.parameters(), toy.parameters()
    ours = build_optimizer(spec("pytorch_optimizer:Lion", weight_decay=0.3), here.items())
    groups = [
        {"params": [p for p in there.values() if p.ndim >= 2], "weight_decay": 0.3},
        {"params": [p for p in there.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    theirs = Lion(groups, lr=0.01, betas=(0.9, 0.98))
    take(ours, here, toy.gradients(here, steps=STEPS))
    take(theirs, there, toy.gradients(there, steps=STEPS))
    assert_equal(copies(here), copies(there))
    assert ours.counters["optimizer_steps"] == STEPS


def test_the_learning_rate_of_a_group_is_the_one_that_is_used(toy: Any) -> None:
    named = toy.parameters()
    optimizer = build_optimizer(spec("torch.optim:AdamW"), named.items())
    before = copies(named)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    take(optimizer, named, toy.gradients(named, steps=1))
    assert_equal(copies(named), before)


def test_a_missing_gradient_counts_as_zero_and_a_non_finite_one_skips_the_step(toy: Any) -> None:
    missing, zero = toy.parameters(), toy.parameters()
    for named, gradient in ((missing, None), (zero, torch.zeros(8))):
        optimizer = build_optimizer(spec("torch.optim:AdamW"), named.items())
        for gradients in toy.gradients(named, steps=2):
            for name, parameter in named.items():
                parameter.grad = gradients[name]
            named["layers.0.norm.weight"].grad = gradient
            optimizer.step()
        before = copies(named)
        named["head.weight"].grad = torch.full((30, 8), float("nan"))
        optimizer.step()
        assert_equal(copies(named), before)
        assert (optimizer.skipped_steps, optimizer.counters["optimizer_steps"]) == (1, 2)
    assert_equal(copies(missing), copies(zero))


@pytest.mark.parametrize("path", PATHS)
def test_it_goes_on_from_its_saved_state_to_the_last_bit(toy: Any, path: str) -> None:
    whole = toy.parameters()
    optimizer = build_optimizer(spec(path), whole.items())
    steps = list(toy.gradients(whole, steps=2 * STEPS))
    take(optimizer, whole, steps[:STEPS])
    resumed = {name: Parameter(weight) for name, weight in copies(whole).items()}
    again = build_optimizer(spec(path), resumed.items())
    again.load_state_dict(optimizer.state_dict())
    for one, named in ((optimizer, whole), (again, resumed)):
        take(one, named, steps[STEPS:])
    assert_equal(copies(resumed), copies(whole))
    assert again.updates == dict.fromkeys(whole, 2 * STEPS)


def test_one_that_evaluates_other_weights_is_evaluated_there_and_trains_on_unchanged(
    toy: Any,
) -> None:
    settings = {"warmup_steps": 2, "weight_decay": 0.1, "betas": [0.9, 0.95]}
    here, ours = toy.parameters(), toy.parameters()
    external = build_optimizer(spec("schedulefree:AdamWScheduleFree", **settings), here.items())
    own = build_optimizer(ScheduleFreeSpec(lr=0.01, warmup_steps=2), ours.items())
    published: list[int] = []
    for gradients in toy.gradients(here, steps=STEPS):
        take(external, here, [gradients])
        take(own, ours, [gradients])
        assert_equal(copies(here), copies(ours))
        with (
            external.evaluation_weights(lambda: published.append(1)),
            own.evaluation_weights(lambda: None),
        ):
            assert_equal(copies(here), copies(ours))
        assert_equal(copies(here), copies(ours))
    assert len(published) == 2 * STEPS
    assert isinstance(external._inner, AdamWScheduleFree)  # type: ignore[attr-defined]


def test_a_state_is_written_without_pickle_whatever_its_shapes_and_layouts() -> None:
    value = {
        "step": 3,
        "factors": [torch.randn(3, 5).mT, None, torch.tensor(2.0)],
        "betas": (0.9, float("inf")),
        7: {"seen": torch.tensor([True]), "counts": torch.arange(3), "dtype": torch.bfloat16},
    }
    found = from_bytes(to_bytes(value), torch.device("cpu"))
    assert torch.equal(found["factors"][0], value["factors"][0])
    assert found["factors"][0].stride() == value["factors"][0].stride()
    assert (found["step"], found["betas"], found[7]["dtype"]) == (
        3,
        (0.9, float("inf")),
        torch.bfloat16,
    )
    assert torch.equal(found[7]["counts"], torch.arange(3))
    assert found["factors"][1] is None
    with pytest.raises(Unsaveable, match="a function"):
        to_bytes({"hook": lambda: None})
