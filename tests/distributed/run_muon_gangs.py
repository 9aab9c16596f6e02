"""Runs cases of Muon and its like on gangs of real gloo workers; each writes what it found.

Usage: run_muon_gangs.py FOLDER CASES, with the cases as JSON. The workers of one gang after the
other are forked from this process, because importing torch costs more than all the cases.
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
from muon_layouts import (
    NAMED_SHAPES,
    SHAPES,
    SPEC,
    Holder,
    averaged_gradient,
    initial,
)
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Parameter

from optimizers import MuonSpec, OptimizerSpec, build_optimizer
from optimizers.matrices.specs import ScionSpec, ShampooSpec, SoapSpec

Cases = dict[str, Any]
STEPS = 4
PERTURBATIONS = 16
# What adding a thousand float32 terms in another order changes, relative to the terms.
REORDERING = 1e-6


def make_spec(scenario: str, layout: str) -> OptimizerSpec:
    options = dict(SPEC)
    options["exchange"] = "replicated" if layout == "replicated" else "owner"
    if scenario == "shampoo":
        del options["ns_dtype"]
        # Four gradients lack rank: a root of what they lack must not be that of rounding errors.
        options.update(lr=0.01, precondition_frequency=2, matrix_epsilon=1e-2)
        return ShampooSpec(**options)
    if scenario in ("soap", "soap_wide"):
        del options["ns_dtype"]
        options["lr"] = 0.01
        if scenario == "soap":
            # Bases of long sides would be free where they are refreshed: four gradients lack rank.
            options.update(precondition_frequency=2, max_precond_dim=8)
        return SoapSpec(**options)
    if scenario == "scion":
        return ScionSpec(**{**options, "lr": 0.01, "radius": 5.0, "sign_radius": 50.0})
    if scenario in ("normuon", "hyperball"):
        options[scenario] = True
    if scenario == "invariant":
        options["batch_invariant"] = True
    if scenario == "bfloat16":
        options["ns_dtype"] = "bf16"
    if scenario == "starved":
        options["starved_matrices"] = "skip"
    return MuonSpec(**options)


def train_alone(
    scenario: str, *, workers: int, steps: int = STEPS, perturbation: int | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """One process that sees the averaged gradients: its weights and its state.

    Args:
        workers: Whose gradients are averaged.
        perturbation: Seed of changes of the gradients as by another order of summation.
    """
    named = {name: Parameter(weight) for name, weight in initial().items()}
    spec = make_spec(scenario, "replicated")
    if perturbation is not None:
        assert isinstance(
            spec, MuonSpec
        )  # by turns matrix by matrix, where a kernel may add otherwise too
        spec = spec.model_copy(update={"batch_invariant": perturbation % 2 == 1})
    optimizer = build_optimizer(spec, named.items())
    generator = torch.Generator().manual_seed(perturbation or 0)
    for step in range(steps):
        for name, gradient in averaged_gradient(scenario, step=step, workers=workers).items():
            if perturbation is not None:
                noise = torch.randn(gradient.shape, generator=generator)
                gradient = gradient + REORDERING * gradient.square().mean().sqrt() * noise
            named[name].grad = gradient
        if scenario == "clipped":
            torch.nn.utils.clip_grad_norm_(list(named.values()), 0.5)
        optimizer.step()
    return {name: p.detach() for name, p in named.items()}, optimizer.state_dict()


reference = cache(train_alone)


def noise_floor(*, workers: int) -> float:
    """How far bfloat16 steps of one process move when sums in float32 are added in another order.

    No implementation can be closer to another than this. Few changes of 1e-6 survive the rounding
    to bfloat16; but where a gradient lacks rank, the iteration lifts the rounding errors themselves
    to singular values of order one, so that one element rounded the other way shows in the result.
    """
    expected, _ = reference("bfloat16", workers=workers)
    floor = 0.0
    for draw in range(PERTURBATIONS):
        weights, _ = train_alone("bfloat16", workers=workers, perturbation=draw)
        pieces = ((name, 0, weight.numel(), weight.view(-1)) for name, weight in weights.items())
        floor = max(floor, *difference(pieces, expected).values())
    return floor


def difference(
    pieces: Iterable[tuple[str, int, int, Tensor]], expected: dict[str, Tensor]
) -> dict[str, float]:
    """Per parameter, the difference on this worker relative to the distance travelled."""
    start, found = initial(), {}
    for name, a, b, weight in pieces:
        travelled = (expected[name] - start[name]).norm() + 1e-12
        found[name] = float((weight - expected[name].reshape(-1)[a:b]).norm() / travelled)
    return found


def run_case(scenario: str, layout: str) -> dict[str, Any]:
    workers = dist.get_world_size()
    expected, _ = reference(scenario, workers=workers)
    holder = Holder(layout, make_spec(scenario, layout), initial())
    norms = []
    for step in range(STEPS):
        holder.set_gradients(scenario, step=step)
        if scenario == "clipped":
            norms.append(float(holder.optimizer.clip_gradients(0.5)))
        holder.step()
    plans = holder.optimizer.plans
    return {
        "difference": difference(holder.pieces(), expected),
        "counters": holder.optimizer.counters,
        "bytes_planned": sum(plan.traffic(holder.rank).total for plan in plans),
        "norms": norms,
        "started": holder.started,
        "digest": [plan.digest for plan in plans],
    }


def run_state_round_trip(scenario: str, layout: str, other: str) -> dict[str, Any]:
    """Two steps under one layout, then two more under another, from the saved state."""
    workers = dist.get_world_size()
    expected, final_state = reference(scenario, workers=workers)
    _, saved_by_one = reference(scenario, workers=workers, steps=2)
    first = Holder(layout, make_spec(scenario, layout), initial())
    for step in range(2):
        first.set_gradients(scenario, step=step)
        first.step()
    state = first.optimizer.state_dict()
    only_one = first.optimizer.state_dict(to=workers - 1)["state"]
    weights = gather_weights(first)
    second = Holder(other, make_spec(scenario, other), weights)
    second.optimizer.load_state_dict(state)
    for step in range(2, STEPS):
        second.set_gradients(scenario, step=step)
        second.step()
    return {
        "difference": difference(second.pieces(), expected),
        "state": state_difference(state, saved_by_one),
        "final_state": state_difference(second.optimizer.state_dict(), final_state),
        "counters": second.optimizer.counters,
        "only_one": sorted(only_one),
    }


def gather_weights(holder: Holder) -> dict[str, Tensor]:
    whole = {name: torch.zeros(shape) for name, shape in NAMED_SHAPES}
    shared = any(f.numel != whole[n].numel() for n, f in holder.optimizer._fragments.items())
    for name, a, b, weight in holder.pieces():
        whole[name].view(-1)[a:b] = weight
    for tensor in whole.values():
        if shared:
            dist.all_reduce(tensor)
    return whole


def state_difference(found: dict[str, Any], expected: dict[str, Any]) -> float:
    assert found["state"].keys() == expected["state"].keys()
    return max(
        float((value - entry[key]).norm() / (entry[key].norm() + 1e-12))
        for name, entry in expected["state"].items()
        for key, value in found["state"][name].items()
    )


def run_in_two_nodes() -> dict[str, Any]:
    """The workers of each half share the work, after all gradients are averaged."""
    workers, rank = dist.get_world_size(), dist.get_rank()
    halves = [
        dist.new_group([*range(workers // 2)]),
        dist.new_group([*range(workers // 2, workers)]),
    ]
    holder = Holder("owner", make_spec("plain", "owner"), initial())
    holder.optimizer.bind(process_group=halves[rank >= workers // 2])
    for step in range(STEPS):
        holder.set_gradients("plain", step=step)
        holder.step()
    counted = holder.optimizer.counted_ranges().values()
    return {
        "difference": difference(holder.pieces(), reference("plain", workers=workers)[0]),
        "counters": holder.optimizer.counters,
        "counted": sum(stop - start for start, stop in counted),
        "elements": sum(parameter.numel() for parameter in holder.named.values()),
    }


def run_disagreement() -> str:
    lr = 0.05 if dist.get_rank() else 0.06
    try:
        Holder("owner", MuonSpec(lr=lr), initial())
    except ValueError as error:
        return str(error)
    return "no error"


def run_worker(cases: Cases, folder: Path, workers: int, rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=(folder / f"rendezvous-{workers}").as_uri(),
        rank=rank,
        world_size=workers,
        timeout=timedelta(seconds=60),
    )
    found: dict[str, Any] = {
        f"{scenario}-{layout}": run_case(scenario, layout)
        for scenario in cases["scenarios"]
        for layout in cases["layouts"]
    }
    for scenario, layout, other in cases["round_trips"]:
        found[f"{scenario}-{layout}-{other}"] = run_state_round_trip(scenario, layout, other)
    found["noise_floor"] = noise_floor(workers=workers)
    found["disagreement"] = run_disagreement()
    if workers == 4:
        found["two_nodes"] = run_in_two_nodes()
    found["across"] = {scenario: run_across_gangs(folder, scenario) for scenario in cases["across"]}
    (folder / f"{dist.get_world_size()}-{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def run_across_gangs(folder: Path, scenario: str) -> dict[str, float]:
    """The gang of 4 saves, the gangs of 2 and 1 load and continue."""
    workers, path = dist.get_world_size(), folder / f"{scenario}.safetensors"
    layout = {4: "rows", 2: "flat", 1: "owner"}[workers]
    seen = 4  # the gradients of the first gang, for all
    if workers == 4:
        holder = Holder(layout, make_spec(scenario, layout), initial())
        for step in range(2):
            holder.set_gradients(scenario, step=step)
            holder.step()
        weights, state = gather_weights(holder), holder.optimizer.state_dict(to=0)
        if dist.get_rank() == 0:
            tensors = {f"weight/{name}": value for name, value in weights.items()}
            for name, entry in state["state"].items():
                tensors.update({f"state/{name}/{key}": v for key, v in entry.items()})
            save_file(tensors, path)
        return {}
    tensors = load_file(path)
    weights = {name: tensors[f"weight/{name}"] for name in SHAPES}
    loaded: dict[str, dict[str, Tensor]] = {name: {} for name in SHAPES}
    for key, value in tensors.items():
        kind, name, *rest = key.split("/")
        if kind == "state":
            loaded[name][rest[0]] = value
    holder = Holder(layout, make_spec(scenario, layout), weights)
    holder.optimizer.load_state_dict({"state": loaded, "param_groups": []})
    holder.workers = seen
    for step in range(2, STEPS):
        holder.set_gradients(scenario, step=step)
        holder.step()
    expected, _ = reference(scenario, workers=seen)
    return difference(holder.pieces(), expected)


def run_gangs(cases: Cases, folder: Path) -> None:
    """A worker that raises, or waits longer than the timeout of its group, ends its gang."""
    context = multiprocessing.get_context("fork")
    for workers in cases["gangs"]:
        gang = [
            context.Process(target=run_worker, args=(cases, folder, workers, rank))
            for rank in range(workers)
        ]
        for process in gang:
            process.start()
        for process in gang:
            process.join()
        if any(process.exitcode for process in gang):
            sys.exit(1)


if __name__ == "__main__":
    run_gangs(json.loads(sys.argv[2]), Path(sys.argv[1]))
