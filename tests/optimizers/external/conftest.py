"""Modules in the current directory, as a user has them."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

NUMBERS = itertools.count()

OWN = """
import torch
from optimizers.elementwise.base import ElementwiseOptimizer

class SignMomentum(ElementwiseOptimizer):
    state_names = ("momentum",)
    settings = {"beta": 0.9, "weight_decay": 0.1, "nesterov": False}

    def _update_tensors(self, tensors, options):
        momenta = tensors.state["momentum"]
        torch._foreach_lerp_(momenta, tensors.gradients, 1.0 - options["beta"])
        torch._foreach_mul_(tensors.weights, 1.0 - options["lr"] * options["weight_decay"])
        torch._foreach_sub_(
            tensors.weights, torch._foreach_sign(momenta), alpha=options["lr"]
        )
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes a module of a new name into the current directory; the name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(text: str = OWN, name: str | None = None) -> str:
        name = name or f"of_somebody_else_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write
