"""Checks of an installation, each a plain record: check, ok, found."""

from __future__ import annotations

import importlib
import shutil
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from harness.cli.arithmetic_check import arithmetic_checks
from harness.study.code_version import code_sha256, code_version

OUR_PACKAGES = ("harness", "models", "optimizers", "tune")
LIBRARIES = ("torch", "accelerate", "deepspeed", "ray", "datasets", "mlflow", "scipy")


def checks(*, threads: int = 1) -> list[dict[str, Any]]:
    """
    Args:
        threads: of a worker, for the speed of its products of matrices.
    """
    return [
        *(_is_ours(name) for name in OUR_PACKAGES),
        *(_is_installed(name) for name in LIBRARIES),
        _compiler(),
        _devices(),
        _code(),
        *arithmetic_checks(threads=threads),
    ]


def _check(check: str, ok: bool, found: str) -> dict[str, Any]:
    return {"check": check, "ok": ok, "found": found}


def _is_ours(name: str) -> dict[str, Any]:
    """The import names exist on package indexes too: ours lie in one folder."""
    try:
        origin = Path(str(importlib.import_module(name).__file__)).resolve().parent
    except ImportError as error:
        return _check(f"package {name}", False, str(error))
    ours = Path(__file__).resolve().parents[2] / name
    return _check(f"package {name} is ours", origin == ours, str(origin))


def _is_installed(name: str) -> dict[str, Any]:
    try:
        return _check(f"library {name}", True, version(name))
    except PackageNotFoundError:
        needs = ", ".join(r for r in distribution("optbench").requires or () if r.startswith(name))
        return _check(f"library {name}", False, f"not installed; needed: {needs}")


def _compiler() -> dict[str, Any]:
    """DeepSpeed compiles its shared-memory communication on CPU when it is first used."""
    found = shutil.which("g++")
    return _check("g++ (DeepSpeed on CPU)", found is not None, found or "not on PATH")


def _code() -> dict[str, Any]:
    """What every outcome records, and what tells whether two machines have the same code."""
    return _check("code", True, f"{code_version()}, sources {code_sha256()}")


def _devices() -> dict[str, Any]:
    import os

    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return _check("devices", True, f"{os.cpu_count()} CPU cores, GPUs: {gpus or 'none'}")
