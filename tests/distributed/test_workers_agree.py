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


def run_trial(study: Path, *, workers: int, variant: str, sets: tuple[str, ...] = ()) -> Any:
    """All reports and the outcome of one trial under `torchrun`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(workers)]
    command += ["--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    command += ["-m", "harness", "trial", str(study), "--variant", variant, "--json"]
    for override in sets:
        command += ["--set", override]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("variant", ["adamw", "muon"])
def test_one_two_and_four_workers_give_the_same_losses(study_file: Path, variant: str) -> None:
    runs = {n: run_trial(study_file, workers=n, variant=variant) for n in (1, 2, 4)}
    *reference, outcome = runs[1]
    for workers in (2, 4):
        *reports, other = runs[workers]
        assert other["preflight"]["num_workers"] == workers
        assert other["batches_sha256"] == outcome["batches_sha256"]
        assert other["initial_parameters_sha256"] == outcome["initial_parameters_sha256"]
        for one, many in zip(reference, reports, strict=True):
            assert many["validation_loss"] == pytest.approx(
                one["validation_loss"], rel=RELATIVE_TOLERANCE
            )
            if one["step"] > 0:
                assert many["train_loss"] == pytest.approx(
                    one["train_loss"], rel=RELATIVE_TOLERANCE
                )


def test_accumulation_gives_the_same_losses_and_one_muon_step_each(study_file: Path) -> None:
    *plain, plain_outcome = run_trial(study_file, workers=1, variant="muon")
    *split, split_outcome = run_trial(
        study_file, workers=2, variant="muon", sets=("training.accumulation_steps=2",)
    )
    assert split_outcome["batches_sha256"] == plain_outcome["batches_sha256"]
    for one, many in zip(plain, split, strict=True):
        assert many["validation_loss"] == pytest.approx(
            one["validation_loss"], rel=RELATIVE_TOLERANCE
        )
        assert many["counters"] == one["counters"]


def test_a_seed_gives_all_variants_the_same_start_and_the_same_batches(study_file: Path) -> None:
    adamw = run_trial(study_file, workers=1, variant="adamw")
    muon = run_trial(study_file, workers=1, variant="muon")
    for certificate in ("initial_parameters_sha256", "batches_sha256"):
        assert adamw[-1][certificate] == muon[-1][certificate]
    assert adamw[0]["validation_loss"] == muon[0]["validation_loss"]
    assert adamw[-1]["validation_loss"] != muon[-1]["validation_loss"]


def test_a_gang_that_does_not_fit_the_study_is_refused(study_file: Path) -> None:
    from harness.backends import WorkerContext
    from harness.data import prepare
    from harness.errors import UserError
    from harness.loop import train
    from harness.study import load_study, trial_spec

    study = load_study(study_file, ["resources.workers=2"])
    dataset = prepare(study.data)
    spec = trial_spec(study, study.variants[0], 0, dataset.manifest.sha256)
    with pytest.raises(UserError, match="2 workers and 1 were started"):
        next(train(spec, WorkerContext(dataset.path)))
