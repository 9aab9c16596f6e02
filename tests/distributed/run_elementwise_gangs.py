"""Trains with the elementwise optimizers on real gloo workers; each writes what it found.

Usage: run_elementwise_gangs.py FOLDER WORKERS, with JSON on the standard input: `specs`, name ->
settings, and `cases`, pairs of a layout and a scenario. The workers are forked from this process,
which imports torch once.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Iterable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # every worker would: torch's distributed tensors import it when first used
import torch.distributed as dist
from muon_layouts import NAMED_SHAPES, Holder, averaged_gradient, initial
from torch import Tensor
from torch.nn import Parameter

from optimizers import REGISTRY, NamedOptimizer, OptimizerSpec, build_optimizer

STEPS = 4
SAVED_AT = 2
Pieces = Iterable[tuple[str, int, int, Tensor]]


def make_spec(settings: str) -> OptimizerSpec:
    found: dict[str, Any] = json.loads(settings)
    return REGISTRY[found["kind"]].spec.model_validate(found)


class Alone:
    """All parameters in one process, which sees the averaged gradients."""

    def __init__(self, spec: OptimizerSpec, weights: dict[str, Tensor]) -> None:
        self.named = {name: Parameter(weights[name].clone()) for name, _ in NAMED_SHAPES}
        self.optimizer: NamedOptimizer = build_optimizer(spec, self.named.items())

    def train(self, scenario: str, steps: range, *, workers: int) -> None:
        for step in steps:
            averaged = averaged_gradient(scenario, step=step, workers=workers)
            for name, gradient in averaged.items():
                self.named[name].grad = gradient
            self.optimizer.step()

    def weights(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.named.items()}


@cache
def expected(settings: str, scenario: str, workers: int) -> dict[str, Tensor]:
    alone = Alone(make_spec(settings), initial())
    alone.train(scenario, range(STEPS), workers=workers)
    return alone.weights()


def train(holder: Holder, scenario: str, steps: range) -> None:
    for step in steps:
        holder.set_gradients(scenario, step=step)
        holder.step()


def difference(pieces: Pieces, settings: str, scenario: str) -> float:
    """The largest over the parameters, relative to the distance travelled."""
    start, worst = initial(), 0.0
    whole = expected(settings, scenario, dist.get_world_size())
    for name, a, b, weight in pieces:
        travelled = (whole[name] - start[name]).norm() + 1e-12
        worst = max(worst, float((weight - whole[name].reshape(-1)[a:b]).norm() / travelled))
    return worst


def run_case(settings: str, layout: str, scenario: str, *, reduced: bool = True) -> float:
    holder = Holder(layout, make_spec(settings), initial())  # type: ignore[arg-type]
    if not reduced:
        holder.optimizer._totals = lambda fragments, partial: partial  # type: ignore[method-assign]
    train(holder, scenario, range(STEPS))
    return difference(holder.pieces(), settings, scenario)


def run_to_one_process(settings: str, layout: str) -> float:
    """Half of the steps sharded, the other half in one process, from the saved state."""
    workers = dist.get_world_size()
    holder = Holder(layout, make_spec(settings), initial())  # type: ignore[arg-type]
    train(holder, "plain", range(SAVED_AT))
    alone = Alone(make_spec(settings), gathered(holder))
    alone.optimizer.load_state_dict(holder.optimizer.state_dict())
    alone.train("plain", range(SAVED_AT, STEPS), workers=workers)
    pieces = ((name, 0, w.numel(), w.view(-1)) for name, w in alone.weights().items())
    return difference(pieces, settings, "plain")


def run_from_one_process(settings: str, layout: str) -> float:
    """The other way round."""
    alone = Alone(make_spec(settings), initial())
    alone.train("plain", range(SAVED_AT), workers=dist.get_world_size())
    holder = Holder(layout, make_spec(settings), alone.weights())  # type: ignore[arg-type]
    holder.optimizer.load_state_dict(alone.optimizer.state_dict())
    train(holder, "plain", range(SAVED_AT, STEPS))
    return difference(holder.pieces(), settings, "plain")


def gathered(holder: Holder) -> dict[str, Tensor]:
    whole = {name: torch.zeros(shape) for name, shape in NAMED_SHAPES}
    for name, a, b, weight in holder.pieces():
        whole[name].view(-1)[a:b] = weight
    for tensor in whole.values():
        dist.all_reduce(tensor)
    return whole


def run_worker(asked: dict[str, Any], folder: Path, workers: int, rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=(folder / "rendezvous").as_uri(),
        rank=rank,
        world_size=workers,
        timeout=timedelta(seconds=60),
    )
    found: dict[str, float] = {}
    for name, spec in asked["specs"].items():
        settings = json.dumps(spec)
        for layout, scenario in asked["cases"]:
            found[f"{name} {layout} {scenario}"] = run_case(settings, layout, scenario)
        found[f"{name} unreduced"] = run_case(settings, "flat", "plain", reduced=False)
        found[f"{name} to one"] = run_to_one_process(settings, "flat")
        found[f"{name} from one"] = run_from_one_process(settings, "slices")
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def main(folder: Path, workers: int) -> None:
    asked = json.load(sys.stdin)
    context = multiprocessing.get_context("fork")
    gang = [
        context.Process(target=run_worker, args=(asked, folder, workers, rank))
        for rank in range(workers)
    ]
    for process in gang:
        process.start()
    for process in gang:
        process.join()
    sys.exit(any(process.exitcode for process in gang))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
