"""The elementwise optimizers take the steps of their authors' or of a kept library's code."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
import pytorch_optimizer as theirs
import torch
from pytorch_optimizer.base.optimizer import BaseOptimizer
from small_weights import OURS, SHAPES, parameters, train
from torch import Tensor
from torch.nn import Parameter

from optimizers import AdamWSpec, OptimizerSpec, build_optimizer
from optimizers.elementwise.ademamix import slow_mean
from optimizers.elementwise.nadamw import lookahead
from optimizers.elementwise.specs import (
    AdEMAMixSpec,
    AdoptSpec,
    LionSpec,
    MarsSpec,
    NAdamWSpec,
    SignumSpec,
)


def groups(named: dict[str, Parameter], decay: float, **vectors: Any) -> list[dict[str, Any]]:
    return [
        {"params": [p for p in named.values() if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in named.values() if p.ndim < 2], "weight_decay": 0.0, **vectors},
    ]


class Written(torch.optim.Optimizer):
    """A formula as it stands in the paper or in code that no package ships, tensor by tensor.

    `formula(gradient, state, t, **options)` returns what is subtracted, times the rate.
    """

    def __init__(self, params: Iterable[Any], formula: Callable[..., Tensor], lr: float) -> None:
        super().__init__(params, {"lr": lr})
        self.formula = formula

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                state["t"] = state.get("t", 0) + 1
                direction = self.formula(p.grad, state, state["t"])
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * direction)


def running(state: dict[str, Any], key: str, value: Tensor, beta: float) -> Tensor:
    found: Tensor = beta * state.get(key, torch.zeros_like(value)) + (1 - beta) * value
    state[key] = found
    return found


def nesterov_signum(g: Tensor, state: dict[str, Any], t: int) -> Tensor:
    # Bernstein et al. 2018 with torch's SGD(nesterov=True) as the momentum, as Semenov et al. 2025:
    # heavy-ball momentum, whose look-ahead has another scale and the same sign.
    state["m"] = 0.95 * state.get("m", torch.zeros_like(g)) + g
    return torch.sign(g + 0.95 * state["m"])


def algoperf_nadamw(
    g: Tensor, state: dict[str, Any], t: int, mask: Callable[..., Tensor] | None = None
) -> Tensor:
    # AlgoPerf's baseline in PyTorch: Adam's corrections, on a momentum that is mixed with the
    # gradient once more.
    momentum = running(state, "m", g, 0.9)
    ahead = 0.9 * momentum + 0.1 * g
    if mask:
        ahead = mask(ahead, g)
    root = (running(state, "v", g * g, 0.99) / (1 - 0.99**t)).sqrt()
    return ahead / (1 - 0.9**t) / (root + 1e-6)


def masked(direction: Tensor, gradient: Tensor) -> Tensor:
    # As c_adamw.py of the authors has it: the library still has their first d / (nonzeros + 1).
    mask = (direction * gradient > 0).to(direction.dtype)
    return direction * mask / mask.mean().clamp(min=1e-3)


def cautious_signum(g: Tensor, state: dict[str, Any], t: int) -> Tensor:
    return masked(torch.sign(running(state, "m", g, 0.9)), g)


Reference = Callable[[dict[str, Parameter], float], torch.optim.Optimizer]


def lion(named: dict[str, Parameter], decay: float, **more: Any) -> Any:
    return theirs.Lion(groups(named, decay), lr=0.03, betas=(0.8, 0.95), **more)


def signum(named: dict[str, Parameter], decay: float) -> Any:
    return theirs.SignSGD(groups(named, decay), lr=0.03, momentum=0.9)


def written(
    named: dict[str, Parameter], decay: float, *, formula: Callable[..., Tensor]
) -> Written:
    return Written(groups(named, decay), formula, lr=0.03)


def nadam(named: dict[str, Parameter], decay: float) -> torch.optim.Optimizer:
    return torch.optim.NAdam(
        groups(named, decay),
        lr=0.03,
        betas=(0.9, 0.99),
        eps=1e-6,
        momentum_decay=0.3,
        decoupled_weight_decay=True,
    )


def adopt(named: dict[str, Parameter], decay: float, *, clip: bool = True, **more: Any) -> Any:
    # The library counts from the gradient that makes no step, the paper from the next.
    return theirs.ADOPT(
        groups(named, decay),
        lr=0.03,
        betas=(0.8, 0.99),
        clip_lambda=(lambda step: (step - 1) ** 0.25) if clip else None,
        weight_decouple=True,
        eps=1e-6,
        **more,
    )


def ademamix(
    named: dict[str, Parameter], decay: float, *, warmup: int | None = None, **more: Any
) -> Any:
    options: dict[str, Any] = {"alpha": 5.0, "betas": (0.8, 0.97, 0.99), **more}
    return theirs.AdEMAMix(
        groups(named, decay),
        lr=0.01,
        weight_decouple=True,
        t_alpha_beta3=warmup,
        eps=1e-7,
        **options,
    )


def mars(named: dict[str, Parameter], decay: float, *, in_1d: bool = False, **more: Any) -> Any:
    # The library adds eps before the correction of the mean square, the authors after: too small
    # here to see. It also adds 1e-15 to the mean square, which they do not.
    return theirs.MARS(
        groups(named, decay, weight_decay_1d=0.0),
        lr=0.03,
        lr_1d=0.015,
        betas=(0.9, 0.97),
        betas_1d=(0.85, 0.96),
        gamma=0.05,
        eps=1e-18,
        optimize_1d=in_1d,
        **more,
    )


ADOPT = {"lr": 0.03, "beta1": 0.8, "beta2": 0.99, "epsilon": 1e-6}
ADEMAMIX = {"lr": 0.01, "beta1": 0.8, "beta2": 0.97, "beta3": 0.99, "alpha": 5.0, "epsilon": 1e-7}
NADAMW = {"lr": 0.03, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-6}
MARS = {
    "lr": 0.03,
    "beta1": 0.9,
    "beta2": 0.97,
    "gamma": 0.05,
    "epsilon": 1e-18,
    "beta1_1d": 0.85,
    "beta2_1d": 0.96,
}
ADAMW = {"lr": 0.01, "beta1": 0.8, "beta2": 0.97, "epsilon": 1e-7, "cautious": True}

CASES: dict[str, tuple[Callable[..., OptimizerSpec], Reference]] = {
    "lion": (partial(LionSpec, lr=0.03, beta1=0.8, beta2=0.95), lion),
    "signum": (partial(SignumSpec, lr=0.03), signum),
    "signum-nesterov": (
        partial(SignumSpec, lr=0.03, momentum=0.95, nesterov=True),
        partial(written, formula=nesterov_signum),
    ),
    "nadamw": (partial(NAdamWSpec, **NADAMW), partial(written, formula=algoperf_nadamw)),
    "nadamw-scheduled": (
        partial(NAdamWSpec, **NADAMW, form="scheduled", momentum_decay=0.3),
        nadam,
    ),
    "adopt": (partial(AdoptSpec, **ADOPT), adopt),
    "adopt-unclipped": (partial(AdoptSpec, **ADOPT, clip=False), partial(adopt, clip=False)),
    "ademamix": (partial(AdEMAMixSpec, **ADEMAMIX), ademamix),
    "ademamix-warmup": (
        partial(AdEMAMixSpec, **ADEMAMIX, warmup=12),
        partial(ademamix, warmup=12),
    ),
    "mars": (partial(MarsSpec, **MARS), mars),
    "mars-1d": (partial(MarsSpec, **MARS, optimize_1d=True), partial(mars, in_1d=True)),
    "cautious-lion": (
        partial(LionSpec, lr=0.03, beta1=0.8, beta2=0.95, cautious=True),
        partial(lion, cautious=True),
    ),
    "cautious-adopt": (
        partial(AdoptSpec, **ADOPT, cautious=True),
        partial(adopt, cautious=True),
    ),
    "cautious-mars": (
        partial(MarsSpec, **MARS, optimize_1d=True, cautious=True),
        partial(mars, in_1d=True, cautious=True),
    ),
    # With alpha = 0 it is AdamW; the library has no other AdamW with this mask.
    "cautious-adamw": (
        partial(AdamWSpec, **ADAMW),
        partial(ademamix, alpha=0.0, cautious=True),
    ),
    "cautious-signum": (
        partial(SignumSpec, lr=0.03, cautious=True),
        partial(written, formula=cautious_signum),
    ),
    "cautious-nadamw": (
        partial(NAdamWSpec, **NADAMW, cautious=True),
        partial(written, formula=partial(algoperf_nadamw, mask=masked)),
    ),
}


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("case", CASES)
def test_the_steps_are_those_of_the_reference(
    case: str, decay: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mask(update: Tensor, gradient: Tensor) -> None:
        update.copy_(masked(update, gradient))

    monkeypatch.setattr(BaseOptimizer, "apply_cautious", staticmethod(mask))
    make_spec, make_reference = CASES[case]
    ours, reference = parameters(), parameters()
    found = train(build_optimizer(make_spec(weight_decay=decay), ours.items()), ours)
    expected = train(make_reference(reference, decay), reference)
    # torch's NAdam multiplies its momenta in single precision; see `mars`.
    close = 1e-6 if "mars" in case or case == "nadamw-scheduled" else 1e-11
    for name in SHAPES:
        torch.testing.assert_close(found[name], expected[name], rtol=close, atol=close)
        assert not torch.equal(found[name], parameters()[name].detach())


def test_every_elementwise_optimizer_but_the_averaging_ones_has_a_reference_here() -> None:
    without = {"schedule_free"}  # compared with its authors' code elsewhere
    assert set(OURS) - without == {case.split("-")[0] for case in CASES} - {"cautious"}


def test_the_slow_mean_starts_from_no_memory_where_the_fast_one_has_none() -> None:
    first, beta3 = slow_mean(1, warmup=4, alpha=8.0, beta1=0.0, beta3=0.99)
    assert (first, beta3) == (2.0, pytest.approx(0.99**4))
    assert slow_mean(4, warmup=4, alpha=8.0, beta1=0.9, beta3=0.99) == (8.0, 0.99)
    assert slow_mean(1, warmup=4, alpha=8.0, beta1=0.0, beta3=0.0) == (2.0, 0.0)


@pytest.mark.parametrize("update", [1, 7, 100_000])
def test_the_scheduled_lookahead_is_the_product_over_all_updates(update: int) -> None:
    momenta = [0.9 * (1 - 0.5 * 0.96 ** (t * 4e-3)) for t in range(1, min(update, 900) + 2)]
    product = float(torch.tensor(momenta[:-1], dtype=torch.float64).prod())
    of_mean, of_gradient = lookahead("scheduled", update, beta1=0.9, momentum_decay=4e-3)
    following = 0.9 * (1 - 0.5 * 0.96 ** ((update + 1) * 4e-3))
    now = 0.9 * (1 - 0.5 * 0.96 ** (update * 4e-3))
    assert of_mean == pytest.approx(following / (1 - product * following), rel=1e-14)
    assert of_gradient == pytest.approx((1 - now) / (1 - product), rel=1e-14)
