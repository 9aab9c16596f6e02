"""Matrices without a gradient, as of an expert that no token reached: `starved_matrices`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from optimizers import AdamWSpec, MuonSpec, build_optimizer

EXPERTS = ("layers.0.experts.up", "layers.0.experts.down")
STARVED, FED = 1, 2  # two of the four experts
LR, DECAY = 0.05, 0.1


def muon(policy: Any, **options: Any) -> MuonSpec:
    return MuonSpec(lr=LR, starved_matrices=policy, ns_dtype="fp32", **options)


def train(toy: Any, spec: Any, *, live: int, hungry: int) -> list[dict[str, Tensor]]:
    """The weights at the start and after each step; `STARVED` gets no gradient in the last ones."""
    named = toy.parameters()
    optimizer = build_optimizer(spec, named.items())
    seen = [{name: p.detach().clone() for name, p in named.items()}]
    for step, gradients in enumerate(toy.gradients(named, steps=live + hungry)):
        for name, parameter in named.items():
            parameter.grad = gradients[name]
            if name in EXPERTS and step >= live:
                gradients[name][STARVED] = 0.0
        optimizer.step()
        seen.append({name: p.detach().clone() for name, p in named.items()})
    return seen


def moved(seen: list[dict[str, Tensor]], name: str, expert: int, *, since: int) -> float:
    return float((seen[-1][name][expert] - seen[since][name][expert]).norm())


@pytest.mark.parametrize("name", EXPERTS)
def test_skipped_a_starved_expert_only_decays(toy: Any, name: str) -> None:
    seen = train(toy, muon("skip"), live=3, hungry=2)
    expected = seen[3][name][STARVED] * (1.0 - LR * DECAY) ** 2
    torch.testing.assert_close(seen[5][name][STARVED], expected, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("name", EXPERTS)
def test_skipped_without_weight_decay_a_starved_expert_stays_to_the_bit(
    toy: Any, name: str
) -> None:
    seen = train(toy, muon("skip", weight_decay=0.0), live=3, hungry=2)
    assert torch.equal(seen[5][name][STARVED], seen[3][name][STARVED])


@pytest.mark.parametrize("policy", ["skip", "orthogonalize"])
def test_a_starved_expert_changes_nothing_for_the_fed_ones(toy: Any, policy: str) -> None:
    fed = train(toy, muon(policy), live=5, hungry=0)
    beside = train(toy, muon(policy), live=3, hungry=2)
    for name in fed[-1]:
        rows = [e for e in range(4) if e != STARVED] if name in EXPERTS else slice(None)
        torch.testing.assert_close(beside[-1][name][rows], fed[-1][name][rows])


def test_without_a_zero_gradient_the_policies_take_the_same_steps(toy: Any) -> None:
    skips = train(toy, muon("skip"), live=4, hungry=0)
    orthogonalizes = train(toy, muon("orthogonalize"), live=4, hungry=0)
    for name, weight in skips[-1].items():
        assert torch.equal(weight, orthogonalizes[-1][name])


def test_a_gradient_of_one_element_is_no_starvation(toy: Any) -> None:
    """The rule is exact: one token that moves one weight a little is a gradient."""
    named = toy.parameters()
    optimizer = build_optimizer(muon("skip", weight_decay=0.0), named.items())
    for name, parameter in named.items():
        parameter.grad = torch.zeros_like(parameter)
        if name in EXPERTS:
            parameter.grad[STARVED, 0, 0] = 1e-3
    before = {name: named[name].detach().clone() for name in EXPERTS}
    optimizer.step()
    for name in EXPERTS:
        assert not torch.equal(named[name][STARVED], before[name][STARVED])
        assert torch.equal(named[name][FED], before[name][FED])


@pytest.mark.parametrize("heavy_ball", ["ema", "heavy_ball"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_the_momentum_of_a_skipped_expert_fades_and_counts_when_tokens_return(
    toy: Any, heavy_ball: str, nesterov: bool
) -> None:
    """After two hungry steps M is mu^2 M, as it would be under the other policy."""
    states = []
    for policy in ("skip", "orthogonalize"):
        named = toy.parameters()
        spec = muon(policy, momentum_kind=heavy_ball, nesterov=nesterov)
        optimizer = build_optimizer(spec, named.items())
        for step, gradients in enumerate(toy.gradients(named, steps=5)):
            for name, parameter in named.items():
                parameter.grad = gradients[name]
                if name in EXPERTS and step in (2, 3):
                    gradients[name][STARVED] = 0.0
            if step == 2:
                live = optimizer.state_dict()["state"][EXPERTS[0]]["momentum"][STARVED].clone()
            if step == 4:
                faded = optimizer.state_dict()["state"][EXPERTS[0]]["momentum"][STARVED].clone()
                torch.testing.assert_close(faded, live * spec.momentum**2)
            optimizer.step()
        states.append(optimizer.state_dict()["state"])
    for name in EXPERTS:
        assert torch.equal(states[0][name]["momentum"], states[1][name]["momentum"])


def test_orthogonalised_a_starved_expert_drifts_at_full_speed_and_under_adamw_it_stops(
    toy: Any,
) -> None:
    """Why the policy exists: the norm of the fading momentum is undone at every step."""
    live, hungry = 5, 40
    drift = {
        policy: moved(
            train(toy, muon(policy, weight_decay=0.0), live=live, hungry=hungry),
            EXPERTS[0],
            STARVED,
            since=live,
        )
        for policy in ("orthogonalize", "skip")
    }
    spec = AdamWSpec(lr=LR, weight_decay=0.0)
    adamw = moved(train(toy, spec, live=live, hungry=hungry), EXPERTS[0], STARVED, since=live)
    # 8 x 20 has 8 singular values near 1, and the direction hardly turns any more.
    assert drift["orthogonalize"] > 0.5 * hungry * LR * 8**0.5
    assert drift["orthogonalize"] > 2 * adamw
    assert drift["skip"] == 0.0


def test_a_missing_gradient_is_a_zero_gradient(toy: Any) -> None:
    found = []
    for missing in (True, False):
        named = toy.parameters()
        optimizer = build_optimizer(muon("skip"), named.items())
        for step, gradients in enumerate(toy.gradients(named, steps=4)):
            for name, parameter in named.items():
                hungry = name in EXPERTS and step >= 2
                empty = None if missing else torch.zeros_like(parameter)
                parameter.grad = empty if hungry else gradients[name]
            optimizer.step()
        found.append({name: p.detach().clone() for name, p in named.items()})
    for name, weight in found[0].items():
        assert torch.equal(weight, found[1][name])
