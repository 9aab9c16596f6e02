"""What this machine computes best: products of matrices in fp32 and bf16, and what follows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tune.checks.findings import Finding, ok

# A product of this size takes 30 ms where bf16 is emulated at 1 GFLOP/s.
SMALL = 256
# Below it a larger product would only take longer, and say the same.
FAST_ENOUGH = 2e10
LARGE = {"cpu": 1024, "cuda": 4096}

# What `optimizers.hardware` asks for before it prefers bf16 by measurement.
CLEARLY_FASTER = 1.5


def arithmetic_checks(*, threads: int) -> Iterator[Finding]:
    """For the processor and, if there is one, the GPU: words, figures, and what to write.

    Args:
        threads: of a worker, as `resources.cpus_per_worker`.
    """
    import torch

    with _threads(threads):
        yield _arithmetic("cpu", f"{threads} thread{'s' if threads > 1 else ''}")
    if torch.cuda.is_available():
        yield _arithmetic("cuda", "one GPU")


def _arithmetic(device_type: str, where: str) -> Finding:
    from optimizers.hardware import best_dtype_name, device_name, hardware_words

    gflops = _measured(device_type)
    best, reason = best_dtype_name(device_type)
    words = hardware_words(device_type)
    found = (
        f"{device_name(device_type)}, {where}: fp32 {gflops['fp32']:.3g} GFLOP/s, bf16 "
        f"{gflops['bf16']:.3g}; bf16 words: {', '.join(words) or 'none'}. Advised: precision = "
        f'"{best}". ns_dtype = "auto" is {reason}'
    )
    if _contradicts(best, gflops):
        found += ". These figures say otherwise: name the dtypes in the study file"
    figures = {
        "device": device_name(device_type),
        "words": list(words),
        "gflops": gflops,
        "precision": best,
        "ns_dtype": best,
    }
    return ok(f"arithmetic on {device_type}", found, figures=figures)


def _measured(device_type: str) -> dict[str, float]:
    import torch

    from optimizers.hardware import measure_products

    speeds = measure_products(device_type, size=SMALL)
    if min(speeds.values()) > FAST_ENOUGH:
        speeds = measure_products(device_type, size=LARGE[device_type])
    names = {torch.float32: "fp32", torch.bfloat16: "bf16"}
    return {names[dtype]: round(speed / 1e9, 1) for dtype, speed in speeds.items()}


def _contradicts(best: str, gflops: dict[str, float]) -> bool:
    ratio = gflops["bf16"] / gflops["fp32"]
    return ratio < 1.0 if best == "bf16" else ratio > CLEARLY_FASTER


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
