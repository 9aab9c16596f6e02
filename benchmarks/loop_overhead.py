"""What the training loop costs: `harness.training.loop.train` against a bare hand-written loop.

    python benchmarks/loop_overhead.py            # one process, all cores
    python benchmarks/loop_overhead.py --json

Both train the same model from the same seed on the same batches with the same optimizer, clipping
and learning rates. Rounds alternate, and the ratio is that of the median step times.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from harness.data import BatchSampler, TokenDataset, prepare
from harness.study.load import load_study
from harness.study.study_file import find_variant
from harness.study.trial import TrialSpec, trial_spec
from harness.training.backends.protocol import WorkerContext
from harness.training.batches import to_tensors
from harness.training.loop import train
from models import MoETransformer, initialize
from optimizers import build_optimizer, learning_rate_factor

STUDY = Path(__file__).parent.parent / "studies" / "quickstart.toml"


def bare_step_times(spec: TrialSpec, dataset: TokenDataset) -> list[float]:
    """Seconds of each step but the first, of the loop that one would write by hand."""
    torch.manual_seed(spec.seed)
    model = MoETransformer(spec.model, vocab_size=dataset.vocab_size)
    initialize(model, seed=spec.seed)
    optimizer = build_optimizer(spec.optimizer, model.named_parameters())
    training = spec.training
    sampler = BatchSampler(
        dataset.num_train_windows, batch_size=training.batch_size, seed=spec.seed
    )
    times = []
    for step in range(training.steps):
        begin = time.perf_counter()
        factor = learning_rate_factor(spec.schedule, step=step, total_steps=training.steps)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        windows = dataset.train_windows(sampler.indices(step))
        inputs, targets = to_tensors(windows, torch.device("cpu"))
        model(inputs, targets).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - begin)
    return times[1:]


def harness_step_times(spec: TrialSpec, dataset: TokenDataset) -> list[float]:
    """Seconds of a step, one figure for each interval between two reports."""
    reports = list(train(spec, WorkerContext(dataset.path)))
    return [report.step_time_s for report in reports if report.step_time_s is not None]


def main(
    rounds: Annotated[int, typer.Option(help="alternating rounds of both loops")] = 5,
    steps: Annotated[int, typer.Option(help="steps of one round")] = 41,
    variant: Annotated[str, typer.Option(help="a variant of the quickstart")] = "adamw",
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    threads = os.cpu_count() or 1
    study = load_study(
        STUDY,
        [
            f"training.steps={steps}",
            "training.evaluation_every=5",
            "training.evaluation_windows=1",
            "resources.workers=1",
            f"resources.cpus_per_worker={threads}",
        ],
    )
    dataset = prepare(study.data)
    spec = trial_spec(study, find_variant(study, variant), 0, dataset.manifest.sha256)
    torch.set_num_threads(threads)
    bare: list[float] = []
    harness: list[float] = []
    for _ in range(rounds):
        bare += bare_step_times(spec, dataset)
        harness += harness_step_times(spec, dataset)
    ratio = statistics.median(harness) / statistics.median(bare)
    result = {
        "bare_step_ms": statistics.median(bare) * 1e3,
        "harness_step_ms": statistics.median(harness) * 1e3,
        "ratio": ratio,
    }
    if as_json:
        print(json.dumps(result))
    else:
        print(
            f"training loop: {result['harness_step_ms']:.2f} ms a step, bare loop "
            f"{result['bare_step_ms']:.2f} ms: ratio {ratio:.3f} ({(ratio - 1):+.1%})"
        )


if __name__ == "__main__":
    typer.run(main)
