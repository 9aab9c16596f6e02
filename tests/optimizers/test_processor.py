"""What the kernel says of the processor is what torch says, and costs no import of torch."""

from __future__ import annotations

import subprocess
import sys

import torch

from optimizers.hardware import best_dtype, best_dtype_name, hardware_words, measure_products
from optimizers.processor import BF16_WORDS, is_x86, processor_name, processor_words


def test_the_kernel_and_torch_name_the_same_instruction_sets() -> None:
    has = torch.cpu.get_capabilities()
    assert processor_words() == tuple(word for word in BF16_WORDS if has.get(word, False))
    assert hardware_words("cpu") == processor_words()
    assert processor_name()


def test_the_best_dtype_of_an_x86_processor_is_known_without_torch() -> None:
    """Elsewhere a product is timed, which takes torch."""
    code = (
        "import sys; from optimizers.hardware import best_dtype_name; "
        "print(best_dtype_name('cpu')[0], 'torch' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.split() == [best_dtype_name("cpu")[0], str(not is_x86())]


def test_the_name_and_the_dtype_of_torch_are_one_answer() -> None:
    name, reason = best_dtype_name("cpu")
    assert best_dtype("cpu") == ({"fp32": torch.float32, "bf16": torch.bfloat16}[name], reason)
    assert reason.startswith(f"{name}: ")


def test_products_are_measured_in_both_dtypes() -> None:
    speeds = measure_products("cpu", size=64)
    assert set(speeds) == {torch.float32, torch.bfloat16}
    assert min(speeds.values()) > 0.0
