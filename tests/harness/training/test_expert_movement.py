"""Tokens and movement of each expert between two reports, in one process. Gangs: distributed."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from harness.training.expert_movement import ExpertMeter
from harness.training.records import ExpertActivity
from optimizers import AdamWSpec, MuonSpec, NamedOptimizer, OptimizerSpec, build_optimizer

SHAPES = {
    "embedding.weight": (9, 4),
    "blocks.0.moe.router.weight": (3, 4),
    "blocks.0.moe.experts.up": (3, 4, 5),
    "blocks.0.moe.experts.down": (3, 5, 4),
    "blocks.1.moe.experts.up": (3, 4, 5),
    "blocks.1.moe.experts.down": (3, 5, 4),
}


class Alone:
    """A gang of one: the one method of a backend that the meter calls."""

    rank, num_workers = 0, 1

    def sum_over_workers(self, values: Tensor) -> Tensor:
        return values


def make(
    spec: OptimizerSpec | None = None, shapes: dict[str, tuple[int, ...]] = SHAPES
) -> tuple[dict[str, Parameter], NamedOptimizer, ExpertMeter]:
    torch.manual_seed(0)
    named = {name: Parameter(torch.randn(shape)) for name, shape in shapes.items()}
    optimizer = build_optimizer(spec or AdamWSpec(lr=0.1), named.items())
    return named, optimizer, ExpertMeter(optimizer, cast(Any, Alone()), experts_per_token=2)


def load(*layers: tuple[float, float, float]) -> Tensor:
    return torch.tensor(layers)


EVEN = load((0.5, 0.5, 0.0), (0.25, 0.25, 0.5))


def test_the_movement_of_an_expert_is_that_of_all_its_matrices() -> None:
    named, _, meter = make()
    meter.count(EVEN, tokens=8)
    with torch.no_grad():
        named["blocks.0.moe.experts.up"][1] += 0.3
        named["blocks.0.moe.experts.down"][1] -= 0.4
        named["blocks.1.moe.experts.down"][2, 0, 0] += 2.0
    found = meter.report()
    assert found is not None
    assert found.movement[0] == pytest.approx([0, (20 * 0.09 + 20 * 0.16) ** 0.5, 0])
    assert found.movement[1] == pytest.approx([0, 0, 2.0])


def test_it_is_the_distance_since_the_last_report_and_not_since_the_start() -> None:
    named, _, meter = make()
    for change in (1.0, 3.0):
        meter.count(EVEN, tokens=8)
        with torch.no_grad():
            named["blocks.0.moe.experts.up"][0, 0, 0] += change
        found = meter.report()
        assert found is not None
        assert found.movement[0] == pytest.approx([change, 0, 0])


def test_tokens_are_assignments_added_up_over_micro_batches_and_begin_again_at_a_report() -> None:
    _, _, meter = make()
    meter.count(EVEN, tokens=8)
    meter.count(load((0.0, 1.0, 0.0), (0.25, 0.25, 0.5)), tokens=16)
    first = meter.report()
    meter.count(EVEN, tokens=8)
    second = meter.report()
    assert first is not None
    assert second is not None
    assert first.tokens == [[8, 8 + 32, 0], [12, 12, 24]]
    assert second.tokens == [[8, 8, 0], [4, 4, 8]]


def test_a_diverged_expert_has_no_movement_and_the_record_is_read_again() -> None:
    named, _, meter = make()
    meter.count(EVEN, tokens=8)
    with torch.no_grad():
        named["blocks.0.moe.experts.up"][1, 0, 0] = float("nan")
    found = meter.report()
    assert found is not None
    assert found.movement[0] == [0.0, None, 0.0]
    assert ExpertActivity.model_validate_json(found.model_dump_json()) == found


def test_there_is_nothing_to_report_before_a_step() -> None:
    _, _, meter = make()
    assert meter.report() is None


def test_a_dense_model_has_no_experts_to_report() -> None:
    _, _, meter = make(shapes={"embedding.weight": (9, 4), "blocks.0.up.weight": (4, 4)})
    meter.count(torch.empty(0, 8), tokens=8)
    assert meter.report() is None


def test_experts_that_are_not_those_of_the_router_are_not_reported() -> None:
    """A model of somebody else may name them otherwise: no figure instead of a wrong one."""
    _, _, meter = make()
    meter.count(load((0.5, 0.5, 0.0)), tokens=8)
    assert meter.report() is None


@pytest.mark.parametrize("policy", ["skip", "orthogonalize"])
def test_a_starved_expert_that_an_optimizer_moves_is_seen_to_move(policy: Any) -> None:
    spec = MuonSpec(lr=0.1, weight_decay=0.0, starved_matrices=policy)
    named, optimizer, meter = make(spec)
    for starves in (False, True):
        meter.count(EVEN, tokens=8)
        for name, parameter in named.items():
            parameter.grad = torch.randn(parameter.shape)
            if starves and ".experts." in name:
                parameter.grad[2] = 0.0
        optimizer.step()
        found = meter.report()
    assert found is not None
    moves = [moved is not None and moved > 0.1 for moved in found.movement[0]]
    assert moves == [True, True, policy == "orthogonalize"]
