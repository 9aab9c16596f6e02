import pytest
import torch
from pydantic import ValidationError
from torch.nn import Parameter

from optimizers import AdamWSpec, build_optimizer

SHAPES = {"embedding.weight": (11, 6), "experts.up": (3, 6, 5), "norm.weight": (6,), "scalar": ()}


def parameters() -> dict[str, Parameter]:
    generator = torch.Generator().manual_seed(0)
    return {name: Parameter(torch.randn(s, generator=generator)) for name, s in SHAPES.items()}


def set_gradients(named: dict[str, Parameter], *, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in named.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_several_steps_are_those_of_torch_adamw_to_the_last_bit() -> None:
    ours, theirs = parameters(), parameters()
    spec = AdamWSpec(lr=1e-2, beta1=0.8, beta2=0.97, epsilon=1e-6, weight_decay=0.2)
    mine = build_optimizer(spec, ours.items())
    matrices = [p for p in theirs.values() if p.ndim >= 2]
    vectors = [p for p in theirs.values() if p.ndim < 2]
    reference = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.2}, {"params": vectors, "weight_decay": 0.0}],
        lr=1e-2,
        betas=(0.8, 0.97),
        eps=1e-6,
        fused=True,
    )
    for seed in range(5):
        for named, optimizer in ((ours, mine), (theirs, reference)):
            set_gradients(named, seed=seed)
            optimizer.step()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_non_finite_gradient_skips_the_step() -> None:
    named = parameters()
    optimizer = build_optimizer(AdamWSpec(lr=1e-2), named.items())
    set_gradients(named, seed=0)
    before = {name: p.detach().clone() for name, p in named.items()}
    grad = named["scalar"].grad
    assert grad is not None
    grad.fill_(float("nan"))
    optimizer.step()
    assert all(torch.equal(named[name].detach(), before[name]) for name in named)
    assert optimizer.counters["skipped_steps"] == 1
    assert not optimizer.state_dict()["state"]


def test_the_report_says_that_everything_goes_to_adamw() -> None:
    optimizer = build_optimizer(AdamWSpec(lr=1e-2), parameters().items())
    assert {route.algorithm for route in optimizer.routes} == {"adamw"}
    assert {group["name"] for group in optimizer.param_groups} == {"adamw_decay", "adamw_no_decay"}


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"lr": 1.0, "beta1": 1.0}, {"lr": 1, "betas": ()}])
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AdamWSpec(**wrong)
