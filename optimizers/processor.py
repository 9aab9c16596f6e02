"""What this machine's processor is called and has for bf16, as the kernel says: without torch.

A command that only plans must know it too, and importing torch takes longer than all the rest.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

X86 = ("x86_64", "amd64")
BF16_WORDS = ("amx_bf16", "avx512_bf16")
"""Instruction sets that multiply bf16 natively, the fastest first: Linux and torch call them so."""

_CPUINFO = Path("/proc/cpuinfo")


def is_x86() -> bool:
    return platform.machine().lower() in X86


@cache
def processor_words() -> tuple[str, ...]:
    """Those of `BF16_WORDS` that this processor has."""
    if is_x86() and "flags" in (described := _described()):
        has = set(described["flags"].split())
    else:
        import torch

        has = {word for word, there in torch.cpu.get_capabilities().items() if there is True}
    return tuple(word for word in BF16_WORDS if word in has)


@cache
def processor_name() -> str:
    """As the kernel calls it; the architecture where it has no name for it."""
    return _described().get("model name") or platform.processor() or platform.machine()


def _described() -> dict[str, str]:
    """The fields of the first processor in Linux's /proc/cpuinfo; nothing on another system."""
    try:
        first = _CPUINFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    fields = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in fields}
