"""Which arithmetic this machine is good at.

The words of a CPU are torch's names of its instruction sets. They decide on x86, where the sets
with bf16 products are known: AMX (8 times fp32 on two cores of Sapphire Rapids) and AVX512-BF16
(4.4 times on Zen 5); without either bf16 is emulated, 3 times slower than fp32 on Cascade Lake and
100 times on Zen 3. Elsewhere one product of matrices is timed.
"""

from __future__ import annotations

import time
from functools import cache

import torch

_X86 = ("x86_64", "amd64")
_CPU_WORDS = ("amx_bf16", "avx512_bf16")
"""Instruction sets that multiply bf16 natively, the fastest first."""

# A dtype that is not clearly faster is not worth its rounding.
_WORTH_IT = 1.5
_PROBE_SIZE = 768
_PROBE_ROUNDS = 3


@cache
def best_dtype(device_type: str) -> tuple[torch.dtype, str]:
    """The dtype in which matrices multiply fastest at sufficient precision, and the reason.

    Never float16, whose range Newton-Schulz and training leave.

    Args:
        device_type: `cpu`, `cuda`, or another device of torch.

    Returns:
        `torch.bfloat16` or `torch.float32`, and one phrase for a report.
    """
    if device_type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "bf16: native on this GPU"
        return torch.float32, "fp32: no native bf16 on this GPU"
    if device_type != "cpu":
        return torch.float32, f"fp32: nothing is known about bf16 on {device_type}"
    words = hardware_words("cpu")
    if words:
        return torch.bfloat16, f"bf16: this CPU has {words[0]}"
    if str(torch.cpu.get_capabilities().get("architecture", "")).lower() in _X86:
        return torch.float32, "fp32: this CPU has no bf16 products (neither AMX nor AVX512-BF16)"
    speeds = measure_products("cpu")
    ratio = speeds[torch.bfloat16] / speeds[torch.float32]
    if ratio > _WORTH_IT:
        return torch.bfloat16, f"bf16: measured {ratio:.1f} times as fast as fp32 on this CPU"
    return torch.float32, f"fp32: bf16 was measured {ratio:.1f} times as fast on this CPU"


def hardware_words(device_type: str) -> tuple[str, ...]:
    """What the device has for bf16: `amx_bf16`, `avx512_bf16`, or a GPU's capability `sm_90`."""
    if device_type == "cuda":
        major, minor = torch.cuda.get_device_capability()
        return (f"sm_{major}{minor}",)
    if device_type != "cpu":
        return ()
    has = torch.cpu.get_capabilities()
    return tuple(word for word in _CPU_WORDS if has.get(word, False))


def measure_products(device_type: str, *, size: int = _PROBE_SIZE) -> dict[torch.dtype, float]:
    """Operations a second of square fp32 and bf16 products, on the threads that torch uses now."""
    return {dtype: _flops(device_type, dtype, size) for dtype in (torch.float32, torch.bfloat16)}


def _flops(device_type: str, dtype: torch.dtype, size: int) -> float:
    """The best of a few products, after one that is not counted."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, size, size, generator=generator).to(device_type, dtype)
    torch.mm(a, b)
    times = []
    for _ in range(_PROBE_ROUNDS):
        if device_type == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        torch.mm(a, b)
        if device_type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return float(2 * size**3 / min(times))
