"""Shampoo against the library's, step by step, and grafting against the formula."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pytorch_optimizer import Shampoo
from torch.nn import Parameter

from optimizers import build_optimizer
from optimizers.matrices.specs import ShampooSpec


@pytest.mark.parametrize("shape", [(12, 12), (8, 20), (20, 8)])
def test_steps_of_sums_are_those_of_the_library(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=generator)
    ours, theirs = Parameter(start.clone()), Parameter(start.clone())
    spec = ShampooSpec(
        lr=0.1,
        weight_decay=0.0,
        beta1=0.0,
        beta2=1.0,
        matrix_epsilon=1e-10,
        precondition_frequency=1,
        grafting="none",
    )
    optimizer = build_optimizer(spec, [("w", ours)])
    peer = Shampoo([theirs], lr=0.1, matrix_eps=1e-9)
    for _ in range(20):
        gradient = torch.randn(shape, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        peer.step()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    assert (ours - start).norm() > 0.3


def test_means_and_grafting_are_those_of_the_formula() -> None:
    """In float64, refreshed at updates 1, 5 and 9."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(6, 9, generator=generator)
    weight = Parameter(start.clone())
    spec = ShampooSpec(lr=0.01, beta1=0.8, beta2=0.9, grafting_beta2=0.97, precondition_frequency=4)
    optimizer = build_optimizer(spec, [("w", weight)])
    expected, left, right = start.double(), torch.zeros(6, 6).double(), torch.zeros(9, 9).double()
    mean, square = torch.zeros(6, 9).double(), torch.zeros(6, 9).double()
    for update in range(1, 13):
        gradient = torch.randn(6, 9, generator=generator)
        weight.grad = gradient.clone()
        optimizer.step()
        g = gradient.double()
        left, right = 0.9 * left + 0.1 * g @ g.T, 0.9 * right + 0.1 * g.T @ g
        mean, square = 0.8 * mean + 0.2 * g, 0.97 * square + 0.03 * g * g
        if update % 4 == 1:
            roots = []
            for side in (left, right):
                values, q = torch.linalg.eigh(side)
                roots.append(q @ torch.diag((values + 1e-4 * values[-1]) ** -0.25) @ q.T)
        direction = roots[0] @ mean @ roots[1]
        adam = mean / (1 - 0.8**update) / (square.sqrt() / math.sqrt(1 - 0.97**update) + 1e-8)
        expected = (1 - 0.01 * 0.1) * expected - 0.01 * direction * adam.norm() / direction.norm()
        torch.testing.assert_close(weight.detach(), expected.float(), rtol=0, atol=2e-4)


def test_a_saved_state_continues_the_same_trajectory(toy: Any) -> None:
    spec = ShampooSpec(lr=0.01, precondition_frequency=2)
    whole = toy.trained(spec, steps=5)
    named = toy.parameters()
    optimizer = build_optimizer(spec, named.items())
    for index, step in enumerate(toy.gradients(named, steps=5)):
        if index == 3:
            saved = optimizer.state_dict()
            optimizer = build_optimizer(spec, named.items())
            optimizer.load_state_dict(saved)
        for name, parameter in named.items():
            parameter.grad = step[name]
        optimizer.step()
    assert all(torch.equal(named[name].detach(), whole[name]) for name in named)


def test_an_expert_without_a_token_stays_finite() -> None:
    weight = Parameter(torch.ones(2, 6, 4))
    optimizer = build_optimizer(ShampooSpec(lr=0.01), [("experts", weight)])
    for _ in range(3):
        gradient = torch.randn(2, 6, 4)
        gradient[1] = 0.0
        weight.grad = gradient
        optimizer.step()
    assert weight.isfinite().all()
    torch.testing.assert_close(weight[1].detach(), torch.full((6, 4), 0.999**3))


@pytest.mark.parametrize("grafting", ["adam", "none"])
def test_the_first_token_of_an_expert_is_no_leap(grafting: str) -> None:
    """The roots are still those of no gradient at all, until they are taken anew at update 11."""
    weight = Parameter(torch.ones(2, 6, 4))
    spec = ShampooSpec.model_validate({"lr": 0.01, "weight_decay": 0.0, "grafting": grafting})
    optimizer = build_optimizer(spec, [("experts", weight)])
    generator = torch.Generator().manual_seed(0)
    for update in range(1, 14):
        before = weight.detach().clone()
        gradient = torch.randn(2, 6, 4, generator=generator)
        gradient[1] *= update > 2
        weight.grad = gradient
        optimizer.step()
        moved = (weight - before).detach().abs().amax((1, 2))
        assert 0.0 < moved[0] < 1.0
        assert moved[1] < 1.0
        assert (moved[1] > 0.0) == (update > (10 if grafting == "none" else 2))
