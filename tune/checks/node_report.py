"""What a node says about itself: asked on every node of a cluster, and of this machine.

Knows nothing of Ray.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from harness.data.cache import default_cache_dir
from tune.checks.mixed_hardware import NodeHardware, hardware_here

OUR_PACKAGES = ("harness", "models", "optimizers", "tune")
ROOT = Path(__file__).resolve().parents[2]

COMPARED = ("torch", "accelerate", "deepspeed", "ray")
"""Libraries whose version decides how a trial computes, or whether its workers understand Ray."""

CACHE, RAY_FILES, SHARED_MEMORY, RUNS = (
    "data cache",
    "Ray's temporary folder",
    "shared memory",
    "runs folder",
)
SHARED_MEMORY_PATH = Path("/dev/shm")


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A place where this node writes.

    Attributes:
        free_bytes, total_bytes: of its file system; 0 where there is none.
        writable: tried out, with a file that has no name; of a folder that is not there yet, the
            right to make it.
    """

    path: str
    exists: bool
    writable: bool
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """
    Attributes:
        python: such as `3.11.9`.
        libraries: version of each of `COMPARED`; empty where it is not installed.
        strangers: where a package of our name lies that is not ours, or empty if there is none.
        gpus: names of the devices that torch sees.
        niceness: of the process that answers, and so of a trial's workers.
        folders: by what they are for.
    """

    hardware: NodeHardware
    python: str
    libraries: Mapping[str, str]
    strangers: Mapping[str, str]
    cpus: int
    gpus: tuple[str, ...]
    niceness: int
    folders: Mapping[str, Folder]


def report_here(device: str, *, ray_files: Path | None = None) -> NodeReport:
    """Of the machine where this is called.

    Args:
        device: `cpu` or `cuda`, whose hardware is told.
        ray_files: Ray's temporary folder; None: where Ray would make it.
    """
    return NodeReport(
        hardware=hardware_here(device),
        python=platform.python_version(),
        libraries={name: installed_version(name) for name in COMPARED},
        strangers=dict(_strangers()),
        cpus=os.cpu_count() or 1,
        gpus=_gpus(),
        niceness=os.nice(0),
        folders={
            CACHE: look_at(default_cache_dir()),
            RAY_FILES: look_at(ray_files or _default_ray_files()),
            SHARED_MEMORY: look_at(SHARED_MEMORY_PATH),
        },
    )


def installed_version(name: str) -> str:
    """Empty where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def origin(name: str) -> Path | None:
    """The folder of a package, which is not imported for it."""
    spec = find_spec(name)
    return Path(spec.origin).resolve().parent if spec and spec.origin else None


def _strangers() -> Iterator[tuple[str, str]]:
    """The import names exist on package indexes too: ours lie in one folder."""
    for name in OUR_PACKAGES:
        found = origin(name)
        if found != ROOT / name:
            yield name, str(found or "")


def _gpus() -> tuple[str, ...]:
    import torch

    return tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def _default_ray_files() -> Path:
    """As `ray._common.utils.get_default_ray_temp_dir`."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / "ray"


def look_at(path: Path) -> Folder:
    exists = path.is_dir()
    nearest = next((each for each in (path, *path.parents) if each.exists()), Path("/"))
    try:
        usage = shutil.disk_usage(nearest)
        free, total = usage.free, usage.total
    except OSError:
        free, total = 0, 0
    return Folder(
        path=str(path),
        exists=exists,
        writable=_takes_a_file(path) if exists else os.access(nearest, os.W_OK | os.X_OK),
        free_bytes=free,
        total_bytes=total,
    )


def _takes_a_file(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
    except OSError:
        return False
    return True
