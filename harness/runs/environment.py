"""Where a study ran: hardware, system, versions of the libraries."""

from __future__ import annotations

import os
import platform
from importlib.metadata import distributions
from typing import Any


def collect() -> dict[str, Any]:
    """What `environment.json` holds; takes a second or two (torch asks the system's own tools)."""
    from torch.utils import collect_env

    info = collect_env.get_env_info()  # type: ignore[no-untyped-call]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hostname": platform.node(),
        "cpu": _cpu_name(info.cpu_info),
        "cpu_count": os.cpu_count(),
        "cuda_available": bool(info.is_cuda_available) and info.is_cuda_available != "False",
        "gpus": (info.nvidia_gpu_models or "").splitlines(),
        "torch": {
            "version": info.torch_version,
            "cuda": info.cuda_compiled_version,
            "cpu_capability": _cpu_capability(),
        },
        "packages": {d.name: d.version for d in sorted(distributions(), key=lambda d: d.name)},
    }


def _cpu_name(lscpu: str | None) -> str:
    for line in (lscpu or "").splitlines():
        label, _, value = line.partition(":")
        if label.strip() == "Model name":
            return value.strip()
    return platform.processor()


def _cpu_capability() -> str:
    import torch

    return str(torch.backends.cpu.get_cpu_capability())
