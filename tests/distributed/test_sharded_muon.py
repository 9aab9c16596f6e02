"""Muon on real gloo workers: every layout takes the steps of a single process.

Run as a script this file is one worker, which runs all cases and writes what it found; run by
pytest it starts gangs of 4, 2 and 1 workers and judges their findings. One gang runs everything,
because starting Python costs more than all the cases.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.nn import Parameter

from optimizers import Fragment, MuonSpec, NamedOptimizer, build_optimizer
from optimizers.layouts import flat_layout, row_layout, slice_layout

pytestmark = pytest.mark.distributed

SHAPES: dict[str, tuple[int, ...]] = {
    "embedding.weight": (13, 6),
    "layers.0.wide.weight": (6, 20),
    "layers.0.tall.weight": (20, 6),
    "layers.0.square.weight": (8, 8),
    "layers.0.odd.weight": (7, 5),
    "layers.0.row.weight": (1, 9),
    "layers.0.norm.weight": (5,),
    "layers.0.experts.up": (5, 6, 10),
    "layers.0.experts.down": (5, 10, 6),
    "layers.0.qkv.weight": (12, 6),
    "head.weight": (13, 6),
}
NAMED_SHAPES = list(SHAPES.items())
SPEC: dict[str, Any] = {
    "lr": 0.05,
    "ns_dtype": "fp32",
    "splits": [{"pattern": "*.qkv.weight", "parts": 3}],
}
STEPS = 4
LAYOUTS = ["replicated", "owner", "local", "flat", "slices", "rows", "dtensor"]
SCENARIOS = ["plain", "zero", "missing", "not_finite", "clipped", "invariant", "bfloat16"]


# --- One worker ---------------------------------------------------------------------------------


def initial() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in NAMED_SHAPES}


def local_gradient(scenario: str, *, step: int, worker: int) -> dict[str, Tensor | None]:
    """What one worker's backward pass leaves behind."""
    generator = torch.Generator().manual_seed(1000 * step + worker)
    found: dict[str, Tensor | None] = {
        name: torch.randn(shape, generator=generator) for name, shape in NAMED_SHAPES
    }
    if scenario == "zero":
        found["layers.0.experts.up"] = torch.zeros(SHAPES["layers.0.experts.up"])
        found["layers.0.odd.weight"] = torch.zeros(SHAPES["layers.0.odd.weight"])
    if scenario == "missing" and worker == 0:
        found["layers.0.experts.down"] = found["layers.0.tall.weight"] = None
    if scenario == "not_finite" and step == 1 and worker == 0:
        experts = found["layers.0.experts.down"]
        assert experts is not None
        experts[3, 2, 1] = float("nan")
    return found


def averaged_gradient(scenario: str, *, step: int, workers: int) -> dict[str, Tensor]:
    each = [local_gradient(scenario, step=step, worker=w) for w in range(workers)]
    return {
        name: sum((g for g in (one[name] for one in each) if g is not None), torch.zeros(shape))
        / workers
        for name, shape in NAMED_SHAPES
    }


class Holder:
    """The parameters of one worker under one layout, as a backend would hold them."""

    def __init__(self, layout: str, spec: MuonSpec, weights: dict[str, Tensor]) -> None:
        self.layout, self.rank, self.workers = layout, dist.get_rank(), dist.get_world_size()
        named = [(name, Parameter(weights[name].clone())) for name in SHAPES]
        if layout == "dtensor":
            named = [(name, _by_rows(parameter)) for name, parameter in named]
        self.optimizer: NamedOptimizer = build_optimizer(spec, named)
        self.named = dict(named)
        self.all_finite = True
        if layout in ("flat", "slices", "rows"):
            self._cut(weights)
        else:
            gradients = "local" if layout == "local" else "averaged"
            self.optimizer.bind(gradients=gradients)

    def _cut(self, weights: dict[str, Tensor]) -> None:
        """Replace the parameters of every group by one flat tensor, or by two (sub-groups)."""
        make = {"flat": flat_layout, "slices": slice_layout, "rows": row_layout}[self.layout]
        fragments: list[Fragment] = []
        self.storages: dict[str, list[Tensor]] = {}
        for group in self.optimizer.param_groups:
            names = group["parameter_names"]
            half = len(names) // 2 if self.layout == "slices" and len(names) > 1 else len(names)
            tensors = []
            for part in (names[:half], names[half:]):
                if not part:
                    continue
                held = make([(n, SHAPES[n]) for n in part], workers=self.workers)
                pieces = [weights[n].reshape(-1)[slice(*held[n][self.rank])] for n in part]
                padding = torch.full((3,), 7.0)  # a backend pads its flat tensors
                storage = Parameter(torch.cat([*pieces, padding]))
                offset = 0
                for name in part:
                    start, stop = held[name][self.rank]
                    fragments.append(Fragment(name, start, stop, storage, offset))
                    offset += stop - start
                tensors.append(storage)
            group["params"] = tensors
            self.storages[group["name"]] = tensors
        # Stepped group by group, the optimizer cannot see all gradients at once; its backend can.
        self.optimizer.bind(fragments, gradients_are_finite=lambda: self.all_finite)

    def set_gradients(self, scenario: str, *, step: int) -> None:
        averaged = averaged_gradient(scenario, step=step, workers=self.workers)
        local = local_gradient(scenario, step=step, worker=self.rank)
        self.all_finite = all(bool(g.isfinite().all()) for g in averaged.values())
        on_muon = {r.name for r in self.optimizer.routes if r.algorithm == "muon"}
        if self.layout in ("flat", "slices", "rows"):
            fragments = self.optimizer._fragments
            for tensors in self.storages.values():
                for storage in tensors:
                    storage.grad = torch.zeros_like(storage)
            for name, f in fragments.items():
                assert f.storage.grad is not None
                piece = averaged[name].reshape(-1)[f.start : f.stop]
                f.storage.grad[f.offset : f.offset + f.numel] = piece
            return
        for name, parameter in self.named.items():
            value = local[name] if self.layout == "local" and name in on_muon else averaged[name]
            if self.layout == "dtensor":
                parameter.grad = _by_rows(value).data
            else:
                parameter.grad = value

    def step(self) -> None:
        groups = self.optimizer.param_groups
        if self.layout == "flat":  # as ZeRO 1 and 2 do it
            for group in groups:
                self.optimizer.param_groups = [group]
                self.optimizer.step()
            self.optimizer.param_groups = groups
        elif self.layout == "slices":  # as ZeRO 3 does it
            for group in groups:
                group["params"] = []
            for group in groups:
                for storage in self.storages[group["name"]]:
                    group["params"] = [storage]
                    self.optimizer.step()
                    group["params"] = []
            for group in groups:
                group["params"] = self.storages[group["name"]]
        else:
            self.optimizer.step()

    def pieces(self) -> Iterator[tuple[str, int, int, Tensor]]:
        for name, f in self.optimizer._fragments.items():
            yield name, f.start, f.stop, f.weight()


def _by_rows(tensor: Tensor) -> Parameter:
    return Parameter(distribute_tensor(tensor.detach(), _mesh(), [Shard(0)]))


@cache
def _mesh() -> DeviceMesh:
    return init_device_mesh("cpu", (dist.get_world_size(),))


def make_spec(scenario: str, layout: str) -> MuonSpec:
    options = dict(SPEC)
    options["exchange"] = "replicated" if layout == "replicated" else "owner"
    if scenario == "invariant":
        options["batch_invariant"] = True
    if scenario == "bfloat16":
        options["ns_dtype"] = "bf16"
    return MuonSpec(**options)


@cache
def reference(
    scenario: str, *, workers: int, steps: int = STEPS
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """One process that sees the averaged gradients."""
    named = {name: Parameter(weight) for name, weight in initial().items()}
    optimizer = build_optimizer(make_spec(scenario, "replicated"), named.items())
    for step in range(steps):
        for name, gradient in averaged_gradient(scenario, step=step, workers=workers).items():
            named[name].grad = gradient
        if scenario == "clipped":
            torch.nn.utils.clip_grad_norm_(list(named.values()), 0.5)
        optimizer.step()
    return {name: p.detach() for name, p in named.items()}, optimizer.state_dict()


def difference(holder: Holder, expected: dict[str, Tensor]) -> dict[str, float]:
    """Per parameter, the difference on this worker relative to the distance travelled."""
    start, found = initial(), {}
    for name, a, b, weight in holder.pieces():
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
    plan = holder.optimizer.plan  # type: ignore[attr-defined]
    return {
        "difference": difference(holder, expected),
        "counters": holder.optimizer.counters,
        "bytes_planned": plan.bytes_sent(holder.rank),
        "norms": norms,
        "digest": plan.digest,
    }


def run_state_round_trip(layout: str, other: str) -> dict[str, Any]:
    """Two steps under one layout, then two more under another, from the saved state."""
    workers = dist.get_world_size()
    expected, final_state = reference("plain", workers=workers)
    _, saved_by_one = reference("plain", workers=workers, steps=2)
    first = Holder(layout, make_spec("plain", layout), initial())
    for step in range(2):
        first.set_gradients("plain", step=step)
        first.step()
    state = first.optimizer.state_dict()
    only_one = first.optimizer.state_dict(to=workers - 1)["state"]
    weights = gather_weights(first)
    second = Holder(other, make_spec("plain", other), weights)
    second.optimizer.load_state_dict(state)
    for step in range(2, STEPS):
        second.set_gradients("plain", step=step)
        second.step()
    return {
        "difference": difference(second, expected),
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


def run_disagreement() -> str:
    lr = 0.05 if dist.get_rank() else 0.06
    try:
        Holder("owner", MuonSpec(lr=lr), initial())
    except ValueError as error:
        return str(error)
    return "no error"


def run_worker(folder: Path, workers: int, rank: int) -> None:
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
        for scenario in SCENARIOS
        for layout in LAYOUTS
    }
    for layout, other in ROUND_TRIPS:
        found[f"{layout}-{other}"] = run_state_round_trip(layout, other)
    found["disagreement"] = run_disagreement()
    found.update(run_across_gangs(folder))
    (folder / f"{dist.get_world_size()}-{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def run_across_gangs(folder: Path) -> dict[str, Any]:
    """The gang of 4 saves, the gangs of 2 and 1 load and continue."""
    workers, path = dist.get_world_size(), folder / "saved.safetensors"
    from safetensors.torch import load_file, save_file

    layout = {4: "rows", 2: "flat", 1: "owner"}[workers]
    seen = 4  # the gradients of the first gang, for all
    if workers == 4:
        holder = Holder(layout, make_spec("plain", layout), initial())
        for step in range(2):
            holder.set_gradients("plain", step=step)
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
    holder = Holder(layout, make_spec("plain", layout), weights)
    holder.optimizer.load_state_dict({"state": loaded, "param_groups": []})
    holder.workers = seen
    for step in range(2, STEPS):
        holder.set_gradients("plain", step=step)
        holder.step()
    expected, _ = reference("plain", workers=seen)
    return {"across": difference(holder, expected)}


# --- The judge ----------------------------------------------------------------------------------

ROUND_TRIPS = [("owner", "flat"), ("flat", "rows"), ("slices", "local"), ("dtensor", "replicated")]
GANGS = [4, 2, 1]
Findings = dict[int, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """Gang size -> what each of its workers found."""
    folder = tmp_path_factory.mktemp("gangs")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(folder)]
    finished = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return {
        workers: [
            json.loads((folder / f"{workers}-{rank}.json").read_text()) for rank in range(workers)
        ]
        for workers in GANGS
    }


def run_gangs(folder: Path) -> None:
    """Fork the workers of one gang after the other from this process, which has done no work yet.

    A worker that raises, or waits longer than the timeout of its group, ends its gang.
    """
    context = multiprocessing.get_context("fork")
    for workers in GANGS:
        gang = [
            context.Process(target=run_worker, args=(folder, workers, rank))
            for rank in range(workers)
        ]
        for process in gang:
            process.start()
        for process in gang:
            process.join()
        if any(process.exitcode for process in gang):
            sys.exit(1)


def worst(findings: Findings, workers: int, case: str) -> float:
    return max(max(one[case]["difference"].values()) for one in findings[workers])


@pytest.mark.parametrize("workers", GANGS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scenario", ["plain", "zero", "missing", "not_finite", "clipped"])
def test_every_layout_takes_the_steps_of_one_process(
    findings: Findings, scenario: str, layout: str, workers: int
) -> None:
    assert worst(findings, workers, f"{scenario}-{layout}") < 1e-5


@pytest.mark.parametrize("workers", GANGS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_batch_invariant_steps_are_those_of_one_process_to_the_last_bit(
    findings: Findings, layout: str, workers: int
) -> None:
    # A worker that averages local gradients adds them in the order of ranks, as the reference does.
    assert worst(findings, workers, f"invariant-{layout}") == 0.0


@pytest.mark.parametrize("workers", GANGS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bfloat16_steps_agree_within_its_noise(
    findings: Findings, layout: str, workers: int
) -> None:
    # The bfloat16 iteration differs from the exact one by about 0.01 of its norm.
    assert worst(findings, workers, f"bfloat16-{layout}") < 0.03


@pytest.mark.parametrize("workers", [4, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_non_finite_gradient_of_one_worker_skips_the_step_of_all(
    findings: Findings, layout: str, workers: int
) -> None:
    for one in findings[workers]:
        counters = one[f"not_finite-{layout}"]["counters"]
        assert counters["skipped_steps"] == 1
        assert counters["optimizer_steps"] == counters["newton_schulz_steps"] == STEPS - 1


@pytest.mark.parametrize("workers", GANGS)
def test_every_matrix_is_orthogonalised_once_a_step_by_someone(
    findings: Findings, workers: int
) -> None:
    matrices = 5 + 10 + 3
    for layout in LAYOUTS:
        calls = [one[f"plain-{layout}"]["counters"] for one in findings[workers]]
        total = sum(counters["newton_schulz_calls"] for counters in calls)
        copies = workers if layout == "replicated" else 1
        assert total == STEPS * matrices * copies
        assert {counters["newton_schulz_steps"] for counters in calls} == {STEPS}


@pytest.mark.parametrize("workers", [4, 2])
def test_the_clipped_norm_is_the_same_everywhere(findings: Findings, workers: int) -> None:
    norms = [one[f"clipped-{layout}"]["norms"] for one in findings[workers] for layout in LAYOUTS]
    for other in norms[1:]:
        assert other == pytest.approx(norms[0], rel=1e-5)


@pytest.mark.parametrize("workers", [4, 2])
def test_bytes_are_those_of_the_plan_and_at_the_floor_on_average(
    findings: Findings, workers: int
) -> None:
    for layout in LAYOUTS:
        counters = [one[f"plain-{layout}"]["counters"] for one in findings[workers]]
        planned = [one[f"plain-{layout}"]["bytes_planned"] for one in findings[workers]]
        sent = [c["bytes_sent"] for c in counters]
        if layout == "slices":  # stepped in two parts, each with its own plan
            continue
        assert sent == [STEPS * bytes_planned for bytes_planned in planned]
        floor = sum(c["bytes_floor"] for c in counters)
        assert sum(sent) <= 1.02 * floor or layout == "dtensor"


@pytest.mark.parametrize("workers", GANGS)
@pytest.mark.parametrize(("layout", "other"), ROUND_TRIPS)
def test_a_state_saved_under_one_layout_continues_under_another(
    findings: Findings, layout: str, other: str, workers: int
) -> None:
    case = f"{layout}-{other}"
    assert worst(findings, workers, case) < 1e-5
    for rank, one in enumerate(findings[workers]):
        assert one[case]["state"] < 1e-5
        assert one[case]["final_state"] < 1e-5
        assert one[case]["counters"]["optimizer_steps"] == STEPS
        assert bool(one[case]["only_one"]) == (rank == workers - 1)


@pytest.mark.parametrize("workers", [2, 1])
def test_a_state_saved_by_four_workers_continues_on_fewer(findings: Findings, workers: int) -> None:
    for one in findings[workers]:
        assert max(one["across"].values()) < 1e-5


@pytest.mark.parametrize("workers", [4, 2])
def test_workers_with_different_specifications_refuse_to_start(
    findings: Findings, workers: int
) -> None:
    assert all("disagree about" in one["disagreement"] for one in findings[workers])


@pytest.mark.parametrize("workers", [4, 2])
def test_all_workers_have_the_same_plan(findings: Findings, workers: int) -> None:
    for layout in LAYOUTS:
        assert len({one[f"plain-{layout}"]["digest"] for one in findings[workers]}) == 1


if __name__ == "__main__":
    run_gangs(Path(sys.argv[1]))
