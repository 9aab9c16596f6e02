"""One Muon step on several workers: ours on every backend, DeepSpeed's Muon and torch.optim.Muon.

    python benchmarks/distributed_muon.py                   # a minute and a half on two idle cores
    python benchmarks/distributed_muon.py --layers 2 --rounds 9
    python benchmarks/distributed_muon.py --json

Real gloo processes hold the weights of some layers of `moe-baseline`. Each contestant has its own
copy of them, all live in the same processes and take turns, round after round.

What is timed: from a local gradient on every worker to the new weights on every worker, that is the
exchange of gradients, Newton-Schulz, the exchange of results and the update of all parameters. The
loss is sum(weight * constant), so that the backward pass costs one multiplication an element. It is
timed as well, because backends exchange gradients in it, and because DeepSpeed orthogonalises in it
at ZeRO 1 and 2: the time of `step()` alone would leave its Newton-Schulz out. The forward pass is
not timed. A round's time is that of its slowest worker; the figures are medians over rounds, and a
ratio is the median of the ratios within a round, with its range.

All contestants route parameters as our Muon does, take five Newton-Schulz steps with the same
coefficients, and clip nothing. DeepSpeed's Muon is its own class with its default method (`gram`,
in fp32 where the processor has no fp16). It comes wrapped in `torch.compile`; on CPUs that takes
minutes for all shapes, so that its Newton-Schulz runs eagerly here unless `--compile` is given
(compilation is not timed). Nothing of ours is compiled.

    CPU ms  processor time of the busiest worker: steadier when other programs run, but without the
            waiting for a peer; also a median
    bytes   what the optimizer sends per element of Muon's weights, a step, on average over workers
    floor   the least for matrices cut evenly between the workers (ZeRO, FSDP2) or held by all. An
            expert that lies whole on one worker is not sent at all, which is less. Both leave out
            gradients that the backend itself averages (all but those of `ddp owner`) and weights
            that it gathers. The bytes of the peers are not counted.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
import torch.distributed as dist
import typer
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from harness.training.backends.deepspeed import locate_fragments
from models import ModelConfig, MoETransformer, resolve_size
from optimizers import (
    DeepSpeedMuonSpec,
    MuonSpec,
    NamedOptimizer,
    OptimizerSpec,
    TorchMuonSpec,
    build_optimizer,
)
from optimizers.peers.deepspeed_muon import DeepSpeedMuon

SPEC = MuonSpec(lr=0.02)
# Small: embedding and head belong to AdamW, which is not the subject.
VOCABULARY = 512
STAGES = (0, 1, 2, 3)
PEER_STAGES = (1, 2, 3)
TORCH = "torch.optim.Muon ddp"


@dataclass(frozen=True)
class Contestant:
    """One optimizer on one backend: `forward` is not timed, `update` is."""

    name: str
    forward: Callable[[], Tensor]
    update: Callable[[Tensor], None]
    optimizer: NamedOptimizer | None = None
    peer: str | None = None
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)


class Weights(nn.Module):
    """The weights of a model and, as its loss, their product with a constant gradient."""

    def __init__(self, shapes: dict[str, torch.Size], *, rank: int) -> None:
        super().__init__()
        start = torch.Generator().manual_seed(0)
        noise = torch.Generator().manual_seed(1 + rank)  # each worker has its own gradient
        self.names: dict[str, str] = {}
        self.constants: dict[str, Tensor] = {}
        for name, shape in shapes.items():
            key = name.replace(".", "__")
            self.names[key] = name
            self.register_parameter(key, nn.Parameter(0.02 * torch.randn(shape, generator=start)))
            self.constants[key] = torch.randn(shape, generator=noise)

    def forward(self) -> Tensor:
        losses = [(w * self.constants[key]).sum() for key, w in self.named_parameters()]
        return torch.stack(losses).sum()

    def named_weights(self) -> list[tuple[str, nn.Parameter]]:
        """The parameters by their names in the model, which decide about their routes."""
        return [(self.names[key], weight) for key, weight in self.named_parameters()]


def model_shapes(layers: int) -> dict[str, torch.Size]:
    """The parameters of `moe-baseline` with fewer layers."""
    config = ModelConfig(**resolve_size({"size": "moe-baseline", "num_layers": layers}))
    with torch.device("meta"):
        model = MoETransformer(config, vocab_size=VOCABULARY)
    return {name: parameter.shape for name, parameter in model.named_parameters()}


def step_after_backward(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def on_ddp(name: str, weights: Weights, spec: OptimizerSpec, *, owner: bool) -> Contestant:
    """`owner`: Muon itself brings gradients to their owners. Otherwise DDP averages them all."""
    optimizer = build_optimizer(spec, weights.named_weights())
    if owner:
        matrices = {route.name for route in optimizer.routes if route.algorithm == "muon"}
        ignored = [key for key, known_as in weights.names.items() if known_as in matrices]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(weights, ignored)  # type: ignore[no-untyped-call]
    optimizer.bind(gradients="local" if owner else "averaged")
    module = DistributedDataParallel(weights, gradient_as_bucket_view=True)
    return Contestant(name, module, lambda loss: step_after_backward(optimizer, loss), optimizer)


def on_fsdp2(weights: Weights, *, workers: int) -> Contestant:
    fully_shard(weights, mesh=init_device_mesh("cpu", (workers,)))
    optimizer = build_optimizer(SPEC, weights.named_weights())
    optimizer.bind()
    return Contestant(
        "ours fsdp2", weights, lambda loss: step_after_backward(optimizer, loss), optimizer
    )


def deepspeed_engine(weights: Weights, optimizer: torch.optim.Optimizer, *, stage: int) -> Any:
    import deepspeed

    engine, *_ = deepspeed.initialize(
        model=weights,
        optimizer=optimizer,
        dist_init_required=False,
        config={
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            # Not zero would clip DeepSpeed's own Muon's orthogonalised update.
            "gradient_clipping": 0.0,
            # Its Muon refuses to reduce-scatter at stage 3.
            "zero_optimization": {"stage": stage, "reduce_scatter": stage < 3},
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
        },
    )
    return engine


def engine_update(engine: Any) -> Callable[[Tensor], None]:
    def update(loss: Tensor) -> None:
        engine.backward(loss)
        engine.step()

    return update


def on_zero(weights: Weights, *, stage: int, rank: int) -> Contestant:
    named = weights.named_weights()
    optimizer = build_optimizer(SPEC, named)
    engine = deepspeed_engine(weights, optimizer, stage=stage)
    names = {id(parameter): name for name, parameter in named}
    fragments = list(locate_fragments(engine.optimizer, names, stage, rank))
    if stage:
        optimizer.bind(fragments, gradients_are_finite=lambda: True)  # DeepSpeed looks itself
    else:
        optimizer.bind()
    peer = f"DeepSpeed's Muon zero{stage}" if stage in PEER_STAGES else None
    return Contestant(f"ours zero{stage}", engine, engine_update(engine), optimizer, peer)


def peer_on_zero(weights: Weights, *, stage: int, method: str) -> Contestant:
    """DeepSpeed's own Muon, with the routes of ours."""
    spec = DeepSpeedMuonSpec(lr=SPEC.lr, ns_method=method)
    optimizer = build_optimizer(spec, weights.named_weights())
    assert isinstance(optimizer, DeepSpeedMuon)
    engine = deepspeed_engine(weights, optimizer.hand_over(), stage=stage)
    return Contestant(f"DeepSpeed's Muon zero{stage}", engine, engine_update(engine))


def contestants(layers: int, *, method: str) -> Iterator[Contestant]:
    """Every contestant with weights of its own."""
    rank, workers = dist.get_rank(), dist.get_world_size()
    shapes = model_shapes(layers)

    def weights() -> Weights:
        return Weights(shapes, rank=rank)

    replicated = SPEC.model_copy(update={"exchange": "replicated"})
    yield on_ddp("ours ddp replicated", weights(), replicated, owner=False)
    yield on_ddp("ours ddp owner", weights(), SPEC, owner=True)
    yield on_fsdp2(weights(), workers=workers)
    for stage in STAGES:
        yield on_zero(weights(), stage=stage, rank=rank)
    for stage in PEER_STAGES:
        yield peer_on_zero(weights(), stage=stage, method=method)
    yield on_ddp(TORCH, weights(), TorchMuonSpec(lr=SPEC.lr), owner=False)


def measure(entrants: list[Contestant], *, rounds: int) -> None:
    """One untimed step of each, then `rounds` rounds of one step of each."""
    for entrant in entrants:
        say(f"first step: {entrant.name}")
        entrant.update(entrant.forward())
    for round_number in range(rounds):
        say(f"round {round_number + 1} of {rounds}")
        first = round_number % len(entrants)  # nobody always runs behind the same neighbour
        for entrant in entrants[first:] + entrants[:first]:
            loss = entrant.forward()
            dist.barrier()
            begin, cpu_begin = time.perf_counter(), time.process_time()
            entrant.update(loss)
            took = [time.perf_counter() - begin, time.process_time() - cpu_begin]
            slowest = torch.tensor(took, dtype=torch.float64)
            dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
            entrant.seconds.append(float(slowest[0]))
            entrant.cpu_seconds.append(float(slowest[1]))


def say(what: str) -> None:
    """Progress, apart from the figures."""
    if dist.get_rank() == 0:
        print(what, file=sys.stderr, flush=True)


def bytes_per_element(entrant: Contestant) -> dict[str, float] | None:
    """Sent and least possible, on average over workers; a collective call."""
    if entrant.optimizer is None or entrant.name == TORCH:
        return None
    counters = entrant.optimizer.counters
    elements = sum(
        torch.Size(route.shape).numel()
        for route in entrant.optimizer.routes
        if route.algorithm == "muon"
    )
    counted = torch.tensor([counters["bytes_sent"], counters["bytes_floor"]], dtype=torch.float64)
    dist.all_reduce(counted)
    share = elements * counters["optimizer_steps"] * dist.get_world_size()
    sent, floor = (counted / share).tolist()
    return {"bytes_per_element": sent, "bytes_floor_per_element": floor}


def ratio(entrant: Contestant, peer: Contestant) -> dict[str, Any]:
    """How many times slower the peer is, from round to round."""
    ratios = [b / a for a, b in zip(entrant.seconds, peer.seconds, strict=True)]
    return {
        "peer": peer.name,
        "speedup": statistics.median(ratios),
        "speedup_range": [min(ratios), max(ratios)],
    }


def summary(entrants: list[Contestant]) -> dict[str, Any]:
    """All figures; the same collective calls on every worker."""
    by_name = {entrant.name: entrant for entrant in entrants}
    rows: dict[str, Any] = {}
    for entrant in entrants:
        row: dict[str, Any] = {
            "milliseconds": 1e3 * statistics.median(entrant.seconds),
            "cpu_milliseconds": 1e3 * statistics.median(entrant.cpu_seconds),
        }
        if entrant.name.startswith("ours"):
            row["against_torch"] = ratio(entrant, by_name[TORCH])
        if entrant.peer is not None:
            row["against_deepspeed"] = ratio(entrant, by_name[entrant.peer])
        rows[entrant.name] = {**row, **(bytes_per_element(entrant) or {})}
    return rows


def print_table(result: dict[str, Any]) -> None:
    print(
        f"{result['workers']} workers, {result['threads']} thread(s) each, {result['layers']} "
        f"layer(s) of moe-baseline: {result['muon_elements'] / 1e6:.1f} M elements for Muon of "
        f"{result['elements'] / 1e6:.1f} M; medians of {result['rounds']} rounds\n"
    )
    print(
        f"{'':24}{'ms':>8}{'CPU ms':>8}  {'torch / this':>18}  {'DeepSpeed / this':>18}  "
        "bytes / element"
    )
    for name, row in result["contestants"].items():
        cells = [f"{name:24}{row['milliseconds']:8.0f}{row['cpu_milliseconds']:8.0f}"]
        for key in ("against_torch", "against_deepspeed"):
            found = row.get(key)
            low, high = found["speedup_range"] if found else (0, 0)
            text = f"{found['speedup']:.2f} ({low:.1f} to {high:.1f})" if found else ""
            cells.append(f"{text:>18}")
        if "bytes_per_element" in row:
            sent, floor = row["bytes_per_element"], row["bytes_floor_per_element"]
            times = f" = {sent / floor:.3f} x floor" if floor else ""
            cells.append(f"{sent:.3f}{times}")
        print("  ".join(cells))


def run_worker(*, layers: int, rounds: int, method: str, compiled: bool, as_json: bool) -> None:
    """What each process of the gang does; the first one prints."""
    os.environ["DS_ACCELERATOR"] = "cpu"  # read when DeepSpeed is imported
    warnings.simplefilter("ignore", FutureWarning)  # torch's own, inside torch and DeepSpeed
    import deepspeed

    if not compiled:
        torch.compiler.set_stance("force_eager")
    deepspeed.logger.setLevel("ERROR")
    dist.init_process_group("gloo")
    deepspeed.init_distributed("gloo", dist_init_required=False)
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // dist.get_world_size()))
    entrants = list(contestants(layers, method=method))
    measure(entrants, rounds=rounds)
    sizes = {name: shape.numel() for name, shape in model_shapes(layers).items()}
    matrices = next(e.optimizer for e in entrants if e.optimizer is not None).routes
    result = {
        "workers": dist.get_world_size(),
        "threads": torch.get_num_threads(),
        "layers": layers,
        "rounds": rounds,
        "deepspeed_method": method,
        "deepspeed_compiled": compiled,
        "elements": sum(sizes.values()),
        "muon_elements": sum(sizes[r.name] for r in matrices if r.algorithm == "muon"),
        "torch": torch.__version__,
        "deepspeed": deepspeed.__version__,
        "contestants": summary(entrants),
    }
    if dist.get_rank() == 0:
        if as_json:
            print(json.dumps(result, indent=2), flush=True)
        else:
            print_table(result)
    dist.barrier()
    dist.destroy_process_group()


def main(
    layers: Annotated[int, typer.Option(help="layers of moe-baseline")] = 1,
    workers: Annotated[int, typer.Option(help="gloo processes")] = 2,
    rounds: Annotated[int, typer.Option(help="timed steps of each contestant")] = 5,
    method: Annotated[str, typer.Option(help="DeepSpeed's ns_method: gram or standard")] = "gram",
    compiled: Annotated[
        bool, typer.Option("--compile", help="DeepSpeed's Newton-Schulz by torch.compile")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Time and bytes of one optimizer step: every backend, DeepSpeed's Muon, torch.optim.Muon."""
    if "RANK" in os.environ:
        run_worker(layers=layers, rounds=rounds, method=method, compiled=compiled, as_json=as_json)
        return
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(workers)]
    launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    done = subprocess.run([*launcher, *sys.argv], env=environment, check=False)
    sys.exit(done.returncode)


if __name__ == "__main__":
    typer.run(main)
