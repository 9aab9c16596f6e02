"""Where a study ran: hardware, system, versions of the libraries.

    python -m harness.runs.environment PATH    # writes it there

It takes seconds of processor time, most of it for importing torch. So a run gives it to a process
of the lowest priority: the trials, which start at the same time, do not wait for it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from harness.runs.files import write_json


def write_beside(path: Path) -> subprocess.Popen[bytes]:
    """Starts to write the environment to `path`; Ctrl-C does not reach the process that does."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness.runs.environment", str(path)], process_group=0
    )


def collect() -> dict[str, Any]:
    """What `environment.json` holds."""
    import torch
    from torch.utils import collect_env

    # Not `get_env_info`, which also asks pip for a second.
    cpu = collect_env.get_cpu_info(collect_env.run)  # type: ignore[no-untyped-call]
    gpus = collect_env.get_gpu_info(collect_env.run)  # type: ignore[no-untyped-call]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hostname": platform.node(),
        "cpu": _cpu_name(cpu),
        "cpu_count": os.cpu_count(),
        "cuda_available": torch.cuda.is_available(),
        "gpus": (gpus or "").splitlines(),
        "torch": {
            "version": torch.__version__,
            "cuda": torch.version.cuda,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        },
        "packages": {d.name: d.version for d in sorted(distributions(), key=lambda d: d.name)},
    }


def _cpu_name(lscpu: str | None) -> str:
    for line in (lscpu or "").splitlines():
        label, _, value = line.partition(":")
        if label.strip() == "Model name":
            return value.strip()
    return platform.processor()


if __name__ == "__main__":
    os.nice(19)
    try:
        write_json(Path(sys.argv[1]), collect())
    except OSError as error:
        sys.exit(f"the environment was not noted: {error.filename}: {error.strerror}")
