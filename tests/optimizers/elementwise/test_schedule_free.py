"""Held to its authors' package step by step, at the weights to train and at those to evaluate."""

from typing import Any

import pytest
import torch
from schedulefree import AdamWScheduleFree
from torch import Tensor
from torch.nn import Parameter

from optimizers import build_optimizer
from optimizers.elementwise.schedule_free_spec import ScheduleFreeSpec

SETTINGS: dict[str, dict[str, float]] = {
    "defaults": {},
    "warm-up": {"warmup_steps": 3},
    "powers": {"warmup_steps": 2, "r": 1.5, "weight_lr_power": 1.0},
    "momentum, no decay": {"beta1": 0.98, "beta2": 0.999, "weight_decay": 0.0},
}
STEPS = 6


def theirs(named: dict[str, Parameter], spec: ScheduleFreeSpec) -> AdamWScheduleFree:
    groups = [
        {"params": [p for p in named.values() if p.ndim >= 2]},
        {"params": [p for p in named.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = AdamWScheduleFree(
        groups,
        lr=spec.lr,
        betas=(spec.beta1, spec.beta2),
        eps=spec.epsilon,
        weight_decay=spec.weight_decay,
        warmup_steps=spec.warmup_steps,
        r=spec.r,
        weight_lr_power=spec.weight_lr_power,
    )
    optimizer.train()
    return optimizer


def copies(named: dict[str, Parameter]) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in named.items()}


def evaluated(optimizer: Any, named: dict[str, Parameter]) -> dict[str, Tensor]:
    with optimizer.evaluation_weights(lambda: None):
        return copies(named)


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("falling", [False, True], ids=["constant", "falling rate"])
def test_it_takes_the_steps_of_its_authors_package_to_the_last_bit(
    toy: Any, settings: dict[str, Any], falling: bool
) -> None:
    spec = ScheduleFreeSpec(lr=0.02, **settings)
    here, there = toy.parameters(), toy.parameters()
    ours, reference = build_optimizer(spec, here.items()), theirs(there, spec)
    for step, gradients in enumerate(toy.gradients(here, steps=STEPS)):
        for optimizer, named in ((ours, here), (reference, there)):
            for name, gradient in gradients.items():
                named[name].grad = gradient.clone()
            for group in optimizer.param_groups:
                group["lr"] = spec.lr * (0.8**step if falling else 1.0)
            optimizer.step()
        assert_equal(copies(here), copies(there))
        # Their own way there and back rounds, so it is gone on a copy.
        before = copies(there)
        reference.eval()
        assert_equal(evaluated(ours, here), copies(there))
        reference.train()
        with torch.no_grad():
            for name, parameter in there.items():
                parameter.copy_(before[name])
        assert_equal(copies(here), before)


def test_how_often_one_evaluates_changes_no_bit_of_the_training(toy: Any) -> None:
    spec, trained = ScheduleFreeSpec(lr=0.02, beta1=0.95), []
    for looks in (0, 3):
        named = toy.parameters()
        optimizer = build_optimizer(spec, named.items())
        for _ in range(looks):  # before the first step both are the start
            assert_equal(evaluated(optimizer, named), copies(named))
        for step, gradients in enumerate(toy.gradients(named, steps=STEPS)):
            toy_step(optimizer, named, gradients)
            for _ in range(looks):
                x = evaluated(optimizer, named)
                # The average of one iterate is that iterate.
                assert all(torch.equal(x[name], p) == (step == 0) for name, p in named.items())
        trained.append(copies(named))
    assert_equal(*trained)


def test_the_weights_to_evaluate_are_the_weighted_average_of_the_z_iterates(toy: Any) -> None:
    spec = ScheduleFreeSpec(lr=0.02, warmup_steps=3, r=1.0)
    named = toy.parameters()
    optimizer = build_optimizer(spec, named.items())
    total, average = (
        0.0,
        {name: torch.zeros(p.shape, dtype=torch.float64) for name, p in named.items()},
    )
    for step, gradients in enumerate(toy.gradients(named, steps=STEPS), start=1):
        toy_step(optimizer, named, gradients)
        weight = step * (0.02 * min(1.0, step / 3)) ** 2
        total += weight
        for name in named:
            z = optimizer.state_dict()["state"][name]["z"].double()
            average[name] += weight / total * (z - average[name])
    for name, x in evaluated(optimizer, named).items():
        torch.testing.assert_close(x.double(), average[name], rtol=1e-4, atol=1e-5)


def toy_step(optimizer: Any, named: dict[str, Parameter], gradients: dict[str, Tensor]) -> None:
    for name, gradient in gradients.items():
        named[name].grad = gradient.clone()
    optimizer.step()


def test_a_loaded_state_goes_on_to_the_last_bit_with_its_average(toy: Any) -> None:
    spec = ScheduleFreeSpec(lr=0.02, warmup_steps=2)
    whole = toy.parameters()
    optimizer, middle, state = build_optimizer(spec, whole.items()), {}, {}
    steps = list(toy.gradients(whole, steps=STEPS))
    for step, gradients in enumerate(steps):
        if step == 3:
            middle, state = copies(whole), optimizer.state_dict()
        toy_step(optimizer, whole, gradients)
    resumed = {name: Parameter(tensor) for name, tensor in middle.items()}
    again = build_optimizer(spec, resumed.items())
    again.load_state_dict(state)
    for gradients in steps[3:]:
        toy_step(again, resumed, gradients)
    assert_equal(copies(resumed), copies(whole))
    assert_equal(evaluated(again, resumed), evaluated(optimizer, whole))
    state["state"]["head.weight"].pop("average")
    with pytest.raises(ValueError, match="saved by another optimizer"):
        again.load_state_dict(state)
