"""Muon and its like on real gloo workers: every layout takes the steps of a single process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.distributed

STEPS = 4  # as in run_muon_gangs.py
LAYOUTS = ["replicated", "owner", "local", "native", "flat", "slices", "rows", "dtensor"]
TO_THE_BIT = [layout for layout in LAYOUTS if layout != "native"]
CONTESTANTS = ["soap", "soap_wide", "shampoo", "scion", "normuon", "hyperball"]
LIKE_ONE = ["plain", "zero", "starved", "missing", "not_finite", "clipped", *CONTESTANTS]
SCENARIOS = [*LIKE_ONE, "invariant", "bfloat16"]
ROUND_TRIPS = [
    ("plain", "owner", "flat"),
    ("plain", "flat", "rows"),
    ("plain", "slices", "local"),
    ("plain", "dtensor", "replicated"),
    ("soap", "local", "rows"),
    ("soap", "flat", "replicated"),
    ("scion", "rows", "local"),
    ("normuon", "replicated", "slices"),
]
ACROSS = ["plain", "soap", "scion", "normuon"]
GANGS = [4, 2, 1]
Findings = dict[int, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """Gang size -> what each of its workers found."""
    folder = tmp_path_factory.mktemp("gangs")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    cases = {
        "layouts": LAYOUTS,
        "scenarios": SCENARIOS,
        "round_trips": ROUND_TRIPS,
        "across": ACROSS,
        "gangs": GANGS,
    }
    script = Path(__file__).with_name("run_muon_gangs.py")
    command = [sys.executable, str(script), str(folder), json.dumps(cases)]
    finished = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return {
        workers: [
            json.loads((folder / f"{workers}-{rank}.json").read_text()) for rank in range(workers)
        ]
        for workers in GANGS
    }


def worst(findings: Findings, workers: int, case: str) -> float:
    return max(max(one[case]["difference"].values()) for one in findings[workers])


@pytest.mark.parametrize("workers", GANGS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scenario", LIKE_ONE)
def test_every_layout_takes_the_steps_of_one_process(
    findings: Findings, scenario: str, layout: str, workers: int
) -> None:
    assert worst(findings, workers, f"{scenario}-{layout}") < 1e-5


@pytest.mark.parametrize("workers", GANGS)
@pytest.mark.parametrize("layout", TO_THE_BIT)
def test_batch_invariant_steps_are_those_of_one_process_to_the_last_bit(
    findings: Findings, layout: str, workers: int
) -> None:
    # A worker that averages local gradients adds them in the order of ranks, as the reference does;
    # a reduce-scatter does not, and no study that asks for the same bits gets one.
    assert worst(findings, workers, f"invariant-{layout}") == 0.0


@pytest.mark.parametrize("workers", GANGS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bfloat16_steps_agree_within_its_noise(
    findings: Findings, layout: str, workers: int
) -> None:
    """The floor is measured by the run itself, see `noise_floor` in run_muon_gangs.py.

    In bfloat16 Newton-Schulz is chaotic on gradients that lack rank, as these do: a change in the
    last bit of float32 moves the result as far as the floor says, and so may another layout.
    """
    floor = findings[workers][0]["noise_floor"]
    assert 0 < floor < 0.5
    assert worst(findings, workers, f"bfloat16-{layout}") < 3 * floor


@pytest.mark.parametrize("workers", [4, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_non_finite_gradient_of_one_worker_skips_the_step_of_all(
    findings: Findings, layout: str, workers: int
) -> None:
    for one in findings[workers]:
        counters = one[f"not_finite-{layout}"]["counters"]
        assert counters["skipped_steps"] == 1
        assert counters["optimizer_steps"] == counters["newton_schulz_steps"] == STEPS - 1


@pytest.mark.parametrize("workers", GANGS)
def test_every_matrix_is_orthogonalised_once_a_step_by_someone(
    findings: Findings, workers: int
) -> None:
    matrices = 5 + 10 + 3
    for layout in LAYOUTS:
        calls = [one[f"plain-{layout}"]["counters"] for one in findings[workers]]
        total = sum(counters["newton_schulz_calls"] for counters in calls)
        copies = workers if layout == "replicated" else 1
        assert total == STEPS * matrices * copies
        assert {counters["newton_schulz_steps"] for counters in calls} == {STEPS}


@pytest.mark.parametrize("workers", [4, 2])
def test_the_clipped_norm_is_the_same_everywhere(findings: Findings, workers: int) -> None:
    norms = [one[f"clipped-{layout}"]["norms"] for one in findings[workers] for layout in LAYOUTS]
    for other in norms[1:]:
        assert other == pytest.approx(norms[0], rel=1e-5)


@pytest.mark.parametrize("workers", [4, 2])
def test_bytes_are_those_of_the_plan_and_at_the_floor_on_average(
    findings: Findings, workers: int
) -> None:
    for layout in LAYOUTS:
        counters = [one[f"plain-{layout}"]["counters"] for one in findings[workers]]
        planned = [one[f"plain-{layout}"]["bytes_planned"] for one in findings[workers]]
        sent = [c["bytes_sent"] for c in counters]
        assert sent == [STEPS * bytes_planned for bytes_planned in planned]
        floor = sum(c["bytes_floor"] for c in counters)
        assert sum(sent) <= 1.02 * floor or layout == "dtensor"


@pytest.mark.parametrize("workers", GANGS)
@pytest.mark.parametrize(("scenario", "layout", "other"), ROUND_TRIPS)
def test_a_state_saved_under_one_layout_continues_under_another(
    findings: Findings, scenario: str, layout: str, other: str, workers: int
) -> None:
    case = f"{scenario}-{layout}-{other}"
    assert worst(findings, workers, case) < 1e-5
    for rank, one in enumerate(findings[workers]):
        assert one[case]["state"] < 1e-5
        assert one[case]["final_state"] < 1e-5
        assert one[case]["counters"]["optimizer_steps"] == STEPS
        assert bool(one[case]["only_one"]) == (rank == workers - 1)


@pytest.mark.parametrize("scenario", ACROSS)
@pytest.mark.parametrize("workers", [2, 1])
def test_a_state_saved_by_four_workers_continues_on_fewer(
    findings: Findings, scenario: str, workers: int
) -> None:
    for one in findings[workers]:
        assert max(one["across"][scenario].values()) < 1e-5


@pytest.mark.parametrize("workers", [4, 2])
@pytest.mark.parametrize("layout", ["local", "native"])
def test_buckets_leave_during_the_backward_pass_if_asked(
    findings: Findings, layout: str, workers: int
) -> None:
    for one in findings[workers]:
        assert one[f"plain-{layout}"]["started"] > 3
        assert one[f"clipped-{layout}"]["started"] == 0


def test_the_workers_of_two_nodes_share_the_work_node_by_node(findings: Findings) -> None:
    assert worst(findings, 4, "two_nodes") < 1e-5
    each = [one["two_nodes"] for one in findings[4]]
    assert sum(one["counters"]["newton_schulz_calls"] for one in each) == 2 * STEPS * (5 + 10 + 3)
    # Both nodes hold everything; it is counted once.
    assert sum(one["counted"] for one in each) == each[0]["elements"]


@pytest.mark.parametrize("workers", [4, 2])
def test_workers_with_different_specifications_refuse_to_start(
    findings: Findings, workers: int
) -> None:
    assert all("disagree about" in one["disagreement"] for one in findings[workers])


@pytest.mark.parametrize("workers", [4, 2])
def test_all_workers_have_the_same_plan(findings: Findings, workers: int) -> None:
    for layout in LAYOUTS:
        assert len({str(one[f"plain-{layout}"]["digest"]) for one in findings[workers]}) == 1
