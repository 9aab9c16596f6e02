"""Everything that only a machine with a GPU can show: conformance, benchmarks, short studies.

    python benchmarks/gpu.py                            # on the GPUs of this machine: make gpu
    python benchmarks/gpu.py --device cpu --only fsdp2  # try the conformance without one

Conformance is optimizer x backend x precision x workers (one, and as many as there are GPUs), each
trial against one process under ddp in the same precision. The tolerance is measured in the same
run: three times what that process differs from itself when its batch is cut otherwise.

Without a GPU it says so and ends with exit code 2; where a trial or a benchmark fails, with 1.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

ROOT = Path(__file__).parent.parent
STUDY = ROOT / "studies" / "quickstart.toml"
BACKENDS = {
    "ddp": ("training.backend=ddp",),
    "fsdp2": ("training.backend=fsdp2",),
    **{f"zero{n}": ("training.backend=deepspeed", f"training.zero_stage={n}") for n in range(4)},
}
SHORT = ("training.steps=6", "training.evaluation_every=3", "training.evaluation_windows=16")
# Never less than what sums in fp32 in another order may do after a few steps.
SMALLEST_TOLERANCE = 1e-5

BENCHMARKS = (
    ("newton_schulz.py", "--device", "cuda"),
    ("training_throughput.py", "--device", "cuda"),
)
STUDIES = ("quickstart.toml", "ns-formula.toml")

Trial = dict[str, Any]


def train(variant: str, settings: tuple[str, ...], *, workers: int, device: str) -> Trial | None:
    """Reports and outcome of a trial; None, after its last words, when it failed."""
    resources = (
        f"resources.workers={workers}",
        f"resources.gpus_per_worker={int(device == 'cuda')}",
    )
    command = ["-m", "harness", "trial", str(STUDY), "--variant", variant, "--json"]
    for setting in (*SHORT, *settings, *resources):
        command += ["--set", setting]
    gang = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}"]
    finished = subprocess.run(
        [sys.executable, *(gang if workers > 1 else []), *command],
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        print(finished.stderr[-2000:], file=sys.stderr)
        return None
    # DeepSpeed adds lines of its own.
    lines = [json.loads(line) for line in finished.stdout.splitlines() if line.startswith("{")]
    return {"reports": lines[:-1], "outcome": lines[-1]}


def difference(one: Trial, other: Trial) -> float:
    """The largest relative difference of two trials' losses."""
    pairs: list[tuple[float, float]] = [
        (left[loss], right[loss])
        for left, right in zip(one["reports"], other["reports"], strict=True)
        for loss in ("validation_loss", "train_loss")
        if left[loss] is not None and right[loss] is not None
    ]
    return max(abs(left - right) / left for left, right in pairs)


def conforms(
    variant: str, precision: str, *, backends: list[str], gangs: list[int], device: str
) -> bool:
    """Prints a line for every trial; whether all of them did what one process does."""
    in_precision = (f"training.precision={precision}",)
    plain = (*BACKENDS["ddp"], *in_precision)
    one = train(variant, plain, workers=1, device=device)
    cut = [(*plain, f"training.accumulation_steps={n}") for n in (2, 4)]
    again = [train(variant, settings, workers=1, device=device) for settings in cut]
    if one is None or None in again:
        print(f"{variant:8}{precision:6}one process under ddp: FAILED")
        return False
    floor = max(difference(one, trial) for trial in again if trial is not None)
    tolerance = max(3 * floor, SMALLEST_TOLERANCE)
    ok = True
    for workers in gangs:
        for backend in backends:
            settings = (*BACKENDS[backend], *in_precision)
            trial = train(variant, settings, workers=workers, device=device)
            apart = float("nan") if trial is None else difference(one, trial)
            good = apart <= tolerance
            ok = ok and good
            print(
                f"{variant:8}{precision:6}{backend:7}{workers} workers  differs by {apart:.1e}, "
                f"allowed {tolerance:.1e}  {'ok' if good else 'FAILED'}",
                flush=True,
            )
    return ok


def succeeds(*command: str) -> bool:
    print(f"\n$ {' '.join(command)}", flush=True)
    return subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode == 0


def main(
    device: Annotated[str, typer.Option(help="cuda; cpu tries the conformance without")] = "cuda",
    only: Annotated[list[str] | None, typer.Option(help="these backends only")] = None,
) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        print("no GPU: torch sees no CUDA device here, so nothing was run", file=sys.stderr)
        raise typer.Exit(2)
    count = torch.cuda.device_count() if device == "cuda" else 2
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"{count} x {name}, torch {torch.__version__}")
    results = [
        conforms(
            variant,
            precision,
            backends=only or list(BACKENDS),
            gangs=sorted({1, count}),
            device=device,
        )
        for variant in ("muon", "adamw")
        for precision in ("fp32", "bf16")
    ]
    if device == "cuda":
        results += [succeeds(f"benchmarks/{script}", *rest) for script, *rest in BENCHMARKS]
        gpu = ("--set", "resources.gpus_per_worker=1")
        results += [succeeds("-m", "harness", "run", f"studies/{one}", *gpu) for one in STUDIES]
    if not all(results):
        print("\nsomething above failed", file=sys.stderr)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
