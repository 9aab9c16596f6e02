"""Elementwise optimizers on real gloo workers: fragments take the steps of whole tensors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from optimizers import REGISTRY, AdamWSpec, OptimizerSpec

pytestmark = pytest.mark.distributed

WORKERS = 2
CASES = [
    ("flat", "plain"),
    ("slices", "plain"),
    ("dtensor", "plain"),
    ("dtensor", "not_finite"),
]

OURS = {
    kind: entry.spec
    for kind, entry in REGISTRY.items()
    if entry.module.startswith("optimizers.elementwise.")
}
CAUTIOUS = {
    f"cautious-{kind}": spec(lr=0.02, cautious=True)
    for kind, spec in ({"adamw": AdamWSpec} | OURS).items()
    if "cautious" in spec.model_fields
}
SPECS: dict[str, OptimizerSpec] = {kind: spec(lr=0.02) for kind, spec in OURS.items()} | CAUTIOUS
GLOBAL = {"mars", *CAUTIOUS}
"""Those whose steps depend on a norm or a mean of a whole parameter."""


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Case -> the largest difference on any worker from one process."""
    folder = tmp_path_factory.mktemp("gangs")
    script = Path(__file__).with_name("run_elementwise_gangs.py")
    specs = {name: spec.model_dump(mode="json") for name, spec in SPECS.items()}
    finished = subprocess.run(
        [sys.executable, str(script), str(folder), str(WORKERS)],
        input=json.dumps({"specs": specs, "cases": CASES}),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    found = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(WORKERS)]
    return {case: max(one[case] for one in found) for case in found[0]}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(("layout", "scenario"), CASES)
def test_every_layout_takes_the_steps_of_one_process(
    findings: dict[str, float], layout: str, scenario: str, name: str
) -> None:
    assert findings[f"{name} {layout} {scenario}"] < 1e-5


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("way", ["to one", "from one"])
def test_a_state_travels_between_two_workers_and_one(
    findings: dict[str, float], way: str, name: str
) -> None:
    assert findings[f"{name} {way}"] < 1e-5


@pytest.mark.parametrize("name", SPECS)
def test_what_depends_on_whole_parameters_goes_wrong_without_the_totals(
    findings: dict[str, float], name: str
) -> None:
    assert (findings[f"{name} unreduced"] > 1e-3) == (name in GLOBAL)
