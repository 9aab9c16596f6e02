"""Newton-Schulz: ours against torch.optim.Muon's routine and DeepSpeed's two methods.

    python benchmarks/newton_schulz.py                       # all shapes, one thread and all
    python benchmarks/newton_schulz.py --threads 1 --shapes 8x384x1536 1x1024x1024
    python benchmarks/newton_schulz.py --device cuda --json figures.json

Every routine orthogonalises the same float32 batch in five `jordan` steps. torch.optim.Muon takes
one matrix at a time and computes in bfloat16, which a CPU without AMX does not multiply natively;
so its routine is also timed with the cast removed ("torch fp32"). DeepSpeed's methods are compiled
by `torch.compile`, as DeepSpeed does it; compilation (a minute a shape) is not timed.

Rounds are interleaved and the minimum is reported, so that another program on the machine disturbs
all alike. On one CPU thread the time is that thread's CPU time; otherwise it is wall time.

    of peak   the operations that our form is made of, by our time, as a share of the fastest matrix
              product measured here in the dtype that `auto` takes; symmetric products by blocks
              leave out up to 3 of 8 of theirs, so that a large matrix can pass 100 %
    rounding  relative Frobenius distance to the same polynomial of the exact singular values
    to polar  relative Frobenius distance to the exact polar factor U V^T; the polynomial's own
              distance after five steps is the floor
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.optim._muon import _zeropower_via_newtonschulz

from optimizers import orthogonalize
from optimizers.coefficients import find_schedule
from optimizers.newton_schulz import choose_computation

# Count, rows and columns. From the models of the study: the experts and the attention of one layer
# of moe-baseline, the feed-forward and the attention of ablation, the experts of tiny; then a batch
# of small experts and single large matrices.
SHAPES = {
    "8x384x1536": "moe-baseline, experts up",
    "8x1536x384": "moe-baseline, experts down",
    "4x384x384": "moe-baseline, attention",
    "4x256x1024": "ablation, feed-forward",
    "4x256x256": "ablation, attention",
    "16x64x128": "tiny, experts",
    "64x64x256": "many small experts",
    "1x768x3072": "large",
    "1x1024x1024": "large",
}
GPU_SHAPES = {"1x2048x5632": "large", "64x1024x512": "many large experts"}
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5

Routine = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Figure:
    """What was measured for one shape and number of threads."""

    shape: str
    threads: int
    computation: str
    milliseconds: dict[str, float]
    ratio_to_torch: float
    ratio_to_best_peer: float
    share_of_peak: float
    rounding: dict[str, float]
    to_polar: dict[str, float]


def torch_loop(batch: Tensor) -> Tensor:
    """torch.optim.Muon's routine, matrix by matrix, as the optimizer calls it."""
    each = [_zeropower_via_newtonschulz(matrix, COEFFICIENTS, STEPS, 1e-7) for matrix in batch]
    return torch.stack(each)


def torch_float32_loop(batch: Tensor) -> Tensor:
    """The same iteration without its cast to bfloat16."""
    return torch.stack([_without_cast(matrix) for matrix in batch])


def _without_cast(matrix: Tensor) -> Tensor:
    a, b, c = COEFFICIENTS
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def deepspeed_routines() -> dict[str, Routine]:
    """DeepSpeed's methods, where it is installed."""
    try:
        from deepspeed.runtime.zero.muon import original_muon as peer
    except ImportError:
        return {}
    return {
        "deepspeed standard": lambda batch: peer.zeropower_via_newtonschulz5(batch, STEPS),
        "deepspeed gram": lambda batch: peer.zeropower_via_gram_newtonschulz(batch, STEPS),
    }


def ours(batch: Tensor) -> Tensor:
    """Our core as the optimizer calls it: form and dtype chosen by shape and hardware."""
    chosen = choose_computation(*batch.shape[-2:], num_steps=STEPS, device=batch.device)
    return orthogonalize(batch, "jordan", STEPS, dtype=chosen.dtype, form=chosen.form)


def interleaved_minimum(
    routines: dict[str, Routine], batch: Tensor, *, rounds: int
) -> dict[str, float]:
    """Seconds of the fastest of `rounds` calls of each routine, called in turn."""
    alone = batch.device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if alone else time.perf_counter
    best = dict.fromkeys(routines, float("inf"))
    for routine in routines.values():
        routine(batch)  # compile, warm up
    for _ in range(rounds):
        for name, routine in routines.items():
            synchronize(batch.device)
            start = clock()
            routine(batch)
            synchronize(batch.device)
            best[name] = min(best[name], clock() - start)
    return best


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_flops(*, dtype: torch.dtype, device: torch.device, rounds: int) -> float:
    """The fastest matrix product measured here, in operations a second."""
    side = 8192 if device.type == "cuda" else 1024
    x = torch.randn(side, side, dtype=dtype, device=device)
    return 2 * side**3 / interleaved_minimum({"mm": lambda x: x @ x}, x, rounds=rounds)["mm"]


def errors(batch: Tensor, routines: dict[str, Routine]) -> tuple[dict[str, float], ...]:
    """Rounding error and distance to the polar factor, on the first matrix."""
    exact = batch[:1].double().cpu()
    u, s, vh = torch.linalg.svd(exact, full_matrices=False)
    polar = u @ vh
    s = s / s.norm()
    for a, b, c in find_schedule("jordan").steps(STEPS):
        s = a * s + b * s**3 + c * s**5
    polynomial = u * s[..., None, :] @ vh
    found = {name: routine(batch[:1]).double().cpu() for name, routine in routines.items()}
    rounding = {n: float((x - polynomial).norm() / polynomial.norm()) for n, x in found.items()}
    to_polar = {n: float((x - polar).norm() / polar.norm()) for n, x in found.items()}
    to_polar["polynomial"] = float((polynomial - polar).norm() / polar.norm())
    return rounding, to_polar


def measure(shape: str, *, threads: int, device: torch.device, rounds: int) -> Figure:
    """One shape, all routines."""
    torch.set_num_threads(threads)
    torch._dynamo.reset()
    count, rows, columns = (int(size) for size in shape.split("x"))
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(count, rows, columns, generator=generator).to(device)
    peers = {"torch": torch_loop, "torch fp32": torch_float32_loop, **deepspeed_routines()}
    routines = {"ours": ours, **peers}
    seconds = interleaved_minimum(routines, batch, rounds=rounds)
    chosen = choose_computation(rows, columns, num_steps=STEPS, device=device)
    peak = peak_flops(dtype=chosen.dtype, device=device, rounds=rounds)
    rounding, to_polar = errors(batch, routines)
    return Figure(
        shape=shape,
        threads=threads,
        computation=f"{chosen.form} {str(chosen.dtype).removeprefix('torch.')}",
        milliseconds={name: 1e3 * value for name, value in seconds.items()},
        ratio_to_torch=seconds["torch"] / seconds["ours"],
        ratio_to_best_peer=min(seconds[name] for name in peers) / seconds["ours"],
        share_of_peak=count * chosen.flops / seconds["ours"] / peak,
        rounding=rounding,
        to_polar=to_polar,
    )


def print_figure(figure: Figure) -> None:
    """One block of lines for one shape."""
    print(
        f"\n{figure.shape}  {figure.threads} thread(s)  {figure.computation}   "
        f"{figure.ratio_to_torch:.1f}x torch, {figure.ratio_to_best_peer:.2f}x the best peer, "
        f"{100 * figure.share_of_peak:.0f} % of peak"
    )
    for name, value in figure.milliseconds.items():
        print(
            f"  {name:20} {value:10.2f} ms   rounding {figure.rounding[name]:.1e}   "
            f"to polar {figure.to_polar[name]:.3f}",
            flush=True,
        )


def main() -> None:
    """Measure and print; optionally write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    parser.add_argument("--shapes", nargs="+", default=None, help="COUNTxROWSxCOLUMNS")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    os.environ.setdefault("DS_ACCELERATOR", torch.device(arguments.device).type)
    device = torch.device(arguments.device)
    shapes = arguments.shapes or [*SHAPES, *(GPU_SHAPES if device.type == "cuda" else {})]
    figures = []
    for threads in sorted(set(arguments.threads)) if device.type == "cpu" else [1]:
        for shape in shapes:
            figures.append(measure(shape, threads=threads, device=device, rounds=arguments.rounds))
            print_figure(figures[-1])
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))


if __name__ == "__main__":
    main()
