"""Neither the backend nor the number of workers changes anything but rounding.

Optimizer x backend x workers x precision, in real processes with real gloo, and real torchrun.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

VARIANTS = ("muon", "adamw")
BACKENDS = {
    "ddp": "training.backend=ddp",
    "fsdp2": "training.backend=fsdp2",
    **{f"zero{n}": f"training.backend=deepspeed,training.zero_stage={n}" for n in range(4)},
}
BF16 = "training.precision=bf16"
PRECISIONS = {"fp32": (), "bf16": (BF16,)}
REPLICATED = "muon,variants.muon.optimizer.exchange=replicated"
WITHIN_NODES = "muon,variants.muon.optimizer.exchange=node"

# fp32 sums in another order, amplified by Newton-Schulz (in fp32 here) and by top-k routing: 7e-8
# measured. A trial in the wrong precision shows at 1.3e-5.
FP32_TOLERANCE = 5e-6
# Before the first step there is nothing to amplify: 0 measured, 1e-6 for ZeRO 3 in bf16, whose
# linear layers are DeepSpeed's own. Weights rounded to bf16 show at 3.5e-6.
UNTRAINED_TOLERANCE = 2e-6


def request(variant: str, backend: str, *settings: str) -> str:
    return ",".join((variant, BACKENDS[backend], *settings))


CASES = {
    f"{variant}-{backend}-{precision}": request(variant, backend, *settings)
    for variant in VARIANTS
    for backend in BACKENDS
    for precision, settings in PRECISIONS.items()
}
# The same sums in another order: one process on the plainest backend, its batch cut otherwise.
CUTS = [f"training.accumulation_steps={count}" for count in (2, 4)]
CUT_OTHERWISE = {v: [request(v, "ddp", BF16, cut) for cut in CUTS] for v in VARIANTS}
ACCUMULATED = {
    f"{backend}-{precision}": request("muon", backend, CUTS[0], *PRECISIONS[precision])
    for backend, precision in zip(
        BACKENDS, ("fp32", "bf16", "bf16", "fp32", "bf16", "fp32"), strict=True
    )
}
ON_FOUR = {backend: request("muon", backend) for backend in ("ddp", "fsdp2", "zero2", "zero3")}
REQUESTS = {
    1: [*CASES.values(), *CUT_OTHERWISE["muon"], *CUT_OTHERWISE["adamw"]],
    2: [*CASES.values(), *ACCUMULATED.values(), REPLICATED, WITHIN_NODES],
    4: [*ON_FOUR.values(), REPLICATED],
}
Runs = dict[int, dict[str, Any]]


@pytest.fixture(scope="module")
def study(study_text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shorter still: there are some seventy trials."""
    path = tmp_path_factory.mktemp("study") / "tiny.toml"
    for old, new in (
        ("\nsteps = 6", "\nsteps = 4"),
        ("evaluation_every = 3", "evaluation_every = 4"),
        ("evaluation_windows = 20", "evaluation_windows = 16"),
    ):
        assert old in study_text
        study_text = study_text.replace(old, new)
    path.write_text(study_text)
    return path


@pytest.fixture(scope="module")
def runs(study: Path, gangs: Any) -> Runs:
    """Workers -> request -> what was trained: all trials of a gang in the same processes."""
    return {
        workers: gangs.train(study, [{"request": text} for text in requests], workers=workers)
        for workers, requests in REQUESTS.items()
    }


def reference(runs: Runs, request_: str) -> Any:
    """One process on the plainest backend, in the same precision."""
    precision = PRECISIONS["bf16" if BF16 in request_ else "fp32"]
    return runs[1][request(request_.split(",")[0], "ddp", *precision)]


def difference(one: Any, other: Any) -> float:
    """The largest relative difference of two trials' losses."""
    pairs = [
        (left[loss], right[loss])
        for left, right in zip(one["reports"], other["reports"], strict=True)
        for loss in ("validation_loss", "train_loss")
        if left[loss] is not None
    ]
    return max(abs(left - right) / left for left, right in pairs)


def tolerance(runs: Runs, request_: str) -> float:
    """In bf16 three times what one process differs from itself, its batch cut otherwise."""
    if BF16 not in request_:
        return FP32_TOLERANCE
    cut_otherwise = CUT_OTHERWISE[request_.split(",")[0]]
    floor = max(difference(reference(runs, request_), runs[1][cut]) for cut in cut_otherwise)
    assert 0 < floor < 1e-4  # 1.5e-5 measured
    return 3 * floor


def assert_same(runs: Runs, request_: str, *, workers: int) -> None:
    one, run = reference(runs, request_), runs[workers][request_]
    for certificate in ("initial_parameters_sha256", "batches_sha256"):
        assert run["outcome"][certificate] == one["outcome"][certificate]
    assert difference(one, run) < tolerance(runs, request_)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("request_", CASES.values(), ids=CASES)
def test_every_backend_gives_the_losses_of_one_process(
    runs: Runs, request_: str, workers: int
) -> None:
    assert_same(runs, request_, workers=workers)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("request_", CASES.values(), ids=CASES)
def test_every_backend_computes_the_same_before_the_first_step(
    runs: Runs, request_: str, workers: int
) -> None:
    one, run = reference(runs, request_), runs[workers][request_]
    assert run["reports"][0]["validation_loss"] == pytest.approx(
        one["reports"][0]["validation_loss"], rel=UNTRAINED_TOLERANCE
    )


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("request_", CASES.values(), ids=CASES)
def test_every_backend_reports_the_norm_of_the_gradient_of_one_process(
    runs: Runs, request_: str, workers: int
) -> None:
    one, run = reference(runs, request_), runs[workers][request_]
    for left, right in zip(one["reports"][1:], run["reports"][1:], strict=True):
        assert right["gradient_norm"] == pytest.approx(
            left["gradient_norm"], rel=1e-3 if BF16 in request_ else 1e-5
        )


def assert_same_experts(runs: Runs, request_: str, *, workers: int) -> None:
    """Assignments to the last one, and how far each expert moved, in fp32; in bf16 their sum.

    Rounding may send a token elsewhere, and an expert of few tokens then moves otherwise.
    """
    one, run = reference(runs, request_), runs[workers][request_]
    assert run["reports"][0]["experts"] is None
    for left, right in zip(one["reports"][1:], run["reports"][1:], strict=True):
        expected, found = left["experts"], right["experts"]
        for layer, tokens in enumerate(found["tokens"]):
            assert sum(tokens) == sum(expected["tokens"][layer]) > 0
            if BF16 not in request_:
                assert tokens == expected["tokens"][layer]
                movement = expected["movement"][layer]
                assert min(movement) > 0
                assert found["movement"][layer] == pytest.approx(movement, rel=1e-3)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("request_", CASES.values(), ids=CASES)
def test_every_backend_counts_the_tokens_and_the_movement_of_each_expert_once(
    runs: Runs, request_: str, workers: int
) -> None:
    assert_same_experts(runs, request_, workers=workers)


@pytest.mark.parametrize("request_", ON_FOUR.values(), ids=ON_FOUR)
def test_four_workers_with_uneven_parts_count_every_expert_once(runs: Runs, request_: str) -> None:
    assert_same_experts(runs, request_, workers=4)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("request_", CASES.values(), ids=CASES)
def test_the_outcome_says_what_held_the_weights_and_in_which_dtypes(
    runs: Runs, request_: str, workers: int
) -> None:
    found = runs[workers][request_]["outcome"]["preflight"]
    assert (found["num_workers"], found["workers_counted"]) == (workers, workers)
    assert found["backend"] in request_
    wrapper = {"ddp": "DistributedDataParallel", "fsdp2": "fully_shard"}.get(found["backend"])
    alone = "none" if workers == 1 else wrapper
    assert found["wrapper"] == ("DeepSpeedEngine" if wrapper is None else alone)
    assert found["products"] == ["bfloat16" if BF16 in request_ else "float32"]
    assert found["weights"] == found["gradients"] == found["exchange"] == ["float32"]
    assert all(found["moved"].values())


@pytest.mark.parametrize("request_", ACCUMULATED.values(), ids=ACCUMULATED)
def test_every_backend_accumulates_and_orthogonalises_once_a_step(
    runs: Runs, request_: str
) -> None:
    assert_same(runs, request_, workers=2)
    last = runs[2][request_]["reports"][-1]
    assert last["counters"]["newton_schulz_steps"] == last["step"]


@pytest.mark.parametrize("request_", ON_FOUR.values(), ids=ON_FOUR)
def test_four_workers_with_uneven_parts_give_the_losses_of_one(runs: Runs, request_: str) -> None:
    assert_same(runs, request_, workers=4)


@pytest.mark.parametrize("workers", [2, 4])
def test_the_owner_exchange_sends_the_floor_and_replication_gives_the_same(
    runs: Runs, workers: int
) -> None:
    assert_same(runs, REPLICATED, workers=workers)
    owner, replicated = (runs[workers][text] for text in (request("muon", "ddp"), REPLICATED))
    counters = owner["reports"][-1]["counters"]
    # Two crossings of every fp32 element, N - 1 of N of them: the floor of data parallelism.
    floor = 4 * 2 * (workers - 1) / workers
    assert counters["bytes_floor_per_element"] == pytest.approx(floor)
    assert counters["bytes_sent_per_element"] == pytest.approx(floor, rel=0.1)
    calls = [run["outcome"]["preflight"]["newton_schulz_calls"] for run in (owner, replicated)]
    assert calls[1] == workers * calls[0]


def test_workers_of_one_node_share_the_work_after_gradients_are_averaged(runs: Runs) -> None:
    assert_same(runs, WITHIN_NODES, workers=2)
    shared = runs[2][WITHIN_NODES]
    assert (
        shared["outcome"]["preflight"]["newton_schulz_calls"]
        == runs[2][request("muon", "ddp")]["outcome"]["preflight"]["newton_schulz_calls"]
    )
    counters = shared["reports"][-1]["counters"]
    assert counters["bytes_sent_per_element"] == pytest.approx(4 / 2, rel=0.1)  # results only
    assert counters["bytes_between_nodes"] == 0


def test_a_seed_gives_all_variants_the_same_start_and_the_same_batches(runs: Runs) -> None:
    adamw, muon = (runs[1][request(variant, "ddp")] for variant in ("adamw", "muon"))
    for certificate in ("initial_parameters_sha256", "batches_sha256"):
        assert adamw["outcome"][certificate] == muon["outcome"][certificate]
    assert adamw["reports"][0]["validation_loss"] == muon["reports"][0]["validation_loss"]
    assert adamw["outcome"]["validation_loss"] != muon["outcome"]["validation_loss"]


def torchrun(workers: int, *arguments: str) -> str:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(workers)]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_the_command_runs_a_trial_under_torchrun(runs: Runs, study: Path) -> None:
    arguments = ("-m", "harness", "trial", str(study), "--variant", "muon", "--json")
    *reports, outcome = map(json.loads, torchrun(2, *arguments).splitlines())
    assert [report["validation_loss"] for report in reports] == [
        report["validation_loss"] for report in runs[2][request("muon", "ddp")]["reports"]
    ]
    assert outcome["outcome"] == "completed"
