"""The number of workers changes nothing but rounding: real processes, real gloo, real torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# fp32 sums in another order; Newton-Schulz (in fp32 here) and top-k routing amplify them.
RELATIVE_TOLERANCE = 1e-4
ACCUMULATED = "muon,training.accumulation_steps=2"
REPLICATED = "muon,variants.muon.optimizer.exchange=replicated"
BACKENDS = {
    "fsdp2": "training.backend=fsdp2",
    **{f"zero{n}": f"training.backend=deepspeed,training.zero_stage={n}" for n in range(4)},
}
SHARDED = {
    f"{variant}-{name}": f"{variant},{settings}"
    for name, settings in BACKENDS.items()
    for variant in ("muon", "adamw")
}
SHARDED_ACCUMULATED = {name: f"{ACCUMULATED},{settings}" for name, settings in BACKENDS.items()}
REQUESTS = [
    "adamw",
    "muon",
    ACCUMULATED,
    REPLICATED,
    *SHARDED.values(),
    *SHARDED_ACCUMULATED.values(),
]


@pytest.fixture(scope="module")
def runs(study_text: str, gangs: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Any]:
    """The same trials with 1, 2 and 4 workers, all of a gang's trials in the same processes."""
    study = tmp_path_factory.mktemp("study") / "tiny.toml"
    study.write_text(study_text)
    trials = [{"request": request} for request in REQUESTS]
    return {workers: gangs.train(study, trials, workers=workers) for workers in (1, 2, 4)}


def assert_same_losses(one: Any, many: Any) -> None:
    for certificate in ("initial_parameters_sha256", "batches_sha256"):
        assert many["outcome"][certificate] == one["outcome"][certificate]
    for left, right in zip(one["reports"], many["reports"], strict=True):
        for loss in ("validation_loss", "train_loss"):
            if left[loss] is not None:
                assert right[loss] == pytest.approx(left[loss], rel=RELATIVE_TOLERANCE)


@pytest.mark.parametrize("variant", ["adamw", "muon"])
@pytest.mark.parametrize("workers", [2, 4])
def test_one_two_and_four_workers_give_the_same_losses(
    runs: dict[int, Any], variant: str, workers: int
) -> None:
    assert runs[workers][variant]["outcome"]["preflight"]["num_workers"] == workers
    assert_same_losses(runs[1][variant], runs[workers][variant])


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_accumulation_gives_the_same_losses_and_one_newton_schulz_a_step(
    runs: dict[int, Any], workers: int
) -> None:
    assert_same_losses(runs[1]["muon"], runs[workers][ACCUMULATED])
    last = runs[workers][ACCUMULATED]["reports"][-1]
    assert last["counters"]["newton_schulz_steps"] == last["step"]


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("request_", SHARDED.values(), ids=SHARDED)
def test_every_backend_gives_the_losses_of_one_process(
    runs: dict[int, Any], request_: str, workers: int
) -> None:
    run = runs[workers][request_]
    assert run["outcome"]["preflight"]["backend"] in request_
    assert_same_losses(runs[1][request_.split(",")[0]], run)


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("request_", SHARDED_ACCUMULATED.values(), ids=SHARDED_ACCUMULATED)
def test_every_backend_accumulates_and_orthogonalises_once_a_step(
    runs: dict[int, Any], request_: str, workers: int
) -> None:
    assert_same_losses(runs[1]["muon"], runs[workers][request_])
    last = runs[workers][request_]["reports"][-1]
    assert last["counters"]["newton_schulz_steps"] == last["step"]


@pytest.mark.parametrize("workers", [2, 4])
def test_the_owner_exchange_sends_the_floor_and_replication_gives_the_same(
    runs: dict[int, Any], workers: int
) -> None:
    assert_same_losses(runs[workers][REPLICATED], runs[workers]["muon"])
    counters = runs[workers]["muon"]["reports"][-1]["counters"]
    # Two crossings of every fp32 element, N - 1 of N of them: the floor of data parallelism.
    floor = 4 * 2 * (workers - 1) / workers
    assert counters["bytes_floor_per_element"] == pytest.approx(floor)
    assert counters["bytes_sent_per_element"] == pytest.approx(floor, rel=0.1)


def test_a_seed_gives_all_variants_the_same_start_and_the_same_batches(
    runs: dict[int, Any],
) -> None:
    adamw, muon = runs[1]["adamw"], runs[1]["muon"]
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


def test_the_command_runs_a_trial_under_torchrun(runs: dict[int, Any], study_file: Path) -> None:
    arguments = ("-m", "harness", "trial", str(study_file), "--variant", "muon", "--json")
    *reports, outcome = map(json.loads, torchrun(2, *arguments).splitlines())
    assert [report["validation_loss"] for report in reports] == [
        report["validation_loss"] for report in runs[2]["muon"]["reports"]
    ]
    assert outcome["outcome"] == "completed"


def test_a_gang_that_does_not_fit_the_study_is_refused(study_file: Path) -> None:
    from harness.data import prepare
    from harness.errors import UserError
    from harness.study.load import load_study
    from harness.study.trial import trial_spec
    from harness.training.backends.protocol import WorkerContext
    from harness.training.loop import train

    study = load_study(study_file, ["resources.workers=2"])
    dataset = prepare(study.data)
    spec = trial_spec(study, study.variants[0], 0, dataset.manifest.sha256)
    with pytest.raises(UserError, match="2 workers and 1 were started"):
        next(train(spec, WorkerContext(dataset.path)))
