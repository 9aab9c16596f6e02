"""Which arithmetic this machine is good at.

The words of a CPU are torch's names of its instruction sets. They decide on x86, where the sets
with bf16 products are known: AMX (8 times fp32 on two cores of Sapphire Rapids) and AVX512-BF16
(4.4 times on Zen 5); without either bf16 is emulated, 3 times slower than fp32 on Cascade Lake and
100 times on Zen 3. Elsewhere one product of matrices is timed. Torch is imported only where flags
do not tell: a command that plans must not wait for it.
"""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, Literal

from optimizers.processor import is_x86, processor_name, processor_words

if TYPE_CHECKING:
    import torch

NativeDtype = Literal["fp32", "bf16"]

# A dtype that is not clearly faster is not worth its rounding.
_WORTH_IT = 1.5
_PROBE_SIZE = 768
_PROBE_ROUNDS = 3
# More rounds of a short product: other programs interrupt some of them.
_PROBE_TIME_S = 0.1


def best_dtype(device_type: str) -> tuple[torch.dtype, str]:
    """As `best_dtype_name`, as a dtype of torch."""
    import torch

    name, reason = best_dtype_name(device_type)
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name], reason


@cache
def best_dtype_name(device_type: str) -> tuple[NativeDtype, str]:
    """The dtype in which matrices multiply fastest at sufficient precision, and the reason.

    Never float16, whose range Newton-Schulz and training leave.

    Args:
        device_type: `cpu`, `cuda`, or another device of torch.

    Returns:
        `bf16` or `fp32`, and one phrase for a report.
    """
    if device_type == "cuda":
        return _best_on_gpu()
    if device_type != "cpu":
        return "fp32", f"fp32: nothing is known about bf16 on {device_type}"
    words = processor_words()
    if words:
        return "bf16", f"bf16: this CPU has {words[0]}"
    if is_x86():
        return "fp32", "fp32: this CPU has no bf16 products (neither AMX nor AVX512-BF16)"
    import torch

    speeds = measure_products("cpu")
    ratio = speeds[torch.bfloat16] / speeds[torch.float32]
    if ratio > _WORTH_IT:
        return "bf16", f"bf16: measured {ratio:.1f} times as fast as fp32 on this CPU"
    return "fp32", f"fp32: bf16 was measured {ratio:.1f} times as fast on this CPU"


def _best_on_gpu() -> tuple[NativeDtype, str]:
    import torch

    if not torch.cuda.is_available():
        return "bf16", "bf16: no GPU is visible here, and all since 2020 (Ampere) have it"
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16", "bf16: native on this GPU"
    return "fp32", "fp32: no native bf16 on this GPU"


def hardware_words(device_type: str) -> tuple[str, ...]:
    """What the device has for bf16: `amx_bf16`, `avx512_bf16`, or a GPU's capability `sm_90`."""
    if device_type == "cuda":
        import torch

        if not torch.cuda.is_available():
            return ()
        major, minor = torch.cuda.get_device_capability()
        return (f"sm_{major}{minor}",)
    return processor_words() if device_type == "cpu" else ()


def measure_products(device_type: str, *, size: int = _PROBE_SIZE) -> dict[torch.dtype, float]:
    """Operations a second of square fp32 and bf16 products, on the threads that torch uses now."""
    import torch

    return {dtype: _flops(device_type, dtype, size) for dtype in (torch.float32, torch.bfloat16)}


def _flops(device_type: str, dtype: torch.dtype, size: int) -> float:
    """The best of a few products, after one that is not counted."""
    import torch

    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, size, size, generator=generator).to(device_type, dtype)
    torch.mm(a, b)
    times: list[float] = []
    while len(times) < _PROBE_ROUNDS or sum(times) < _PROBE_TIME_S:
        if device_type == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        torch.mm(a, b)
        if device_type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return float(2 * size**3 / min(times))


def device_name(device_type: str) -> str:
    """What the processor or the GPU is called."""
    if device_type == "cpu":
        return processor_name()
    if device_type == "cuda":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else "no visible GPU"
    return device_type
