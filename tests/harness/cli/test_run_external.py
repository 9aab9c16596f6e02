"""`optbench run` with an optimizer in a file of the current folder, in real workers of Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
import torch
from optimizers.elementwise.base import ElementwiseOptimizer

class Signed(ElementwiseOptimizer):
    state_names = ("momentum",)
    settings = {"beta": 0.9, "weight_decay": 0.0}

    def _update_tensors(self, tensors, options):
        momenta = tensors.state["momentum"]
        torch._foreach_lerp_(momenta, tensors.gradients, 1.0 - options["beta"])
        torch._foreach_sub_(
            tensors.weights, torch._foreach_sign(momenta), alpha=options["lr"]
        )
"""
VARIANTS = """
[[variants]]
name = "mine"
optimizer = { kind = "external", path = "my_signed:Signed", lr = 0.003, settings = { beta = 0.8 } }

[[variants]]
name = "theirs"
optimizer = { kind = "external", path = "pytorch_optimizer:Lion", lr = 0.001 }

[analysis]"""


@pytest.mark.faults
def test_a_file_in_the_current_folder_and_an_installed_package_are_trained_by_two_workers(
    study_text: str, tmp_path: Path
) -> None:
    (tmp_path / "my_signed.py").write_text(MODULE)
    text = study_text.replace("\n[analysis]", VARIANTS).replace("workers = 1", "workers = 2")
    (tmp_path / "study.toml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "harness", "run", "study.toml", "--set", "training.steps=3"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    specs = [json.loads(f.read_text()) for f in tmp_path.glob("runs/tiny/trials/*/spec.json")]
    sources = {s["optimizer"].get("path"): s["optimizer"].get("source") for s in specs}
    assert sources["my_signed:Signed"].startswith("sha256:")
    assert sources["pytorch_optimizer:Lion"].startswith("pytorch_optimizer 4.")
    outcomes = [json.loads(f.read_text()) for f in tmp_path.glob("runs/tiny/trials/*/outcome.json")]
    assert len(outcomes) == 12
    assert {o["outcome"] for o in outcomes} == {"completed"}
