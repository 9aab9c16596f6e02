"""What checkpoints cost: the time of one beside that of training, in one run.

    python benchmarks/checkpoint_overhead.py                      # 10 M parameters, all cores
    python benchmarks/checkpoint_overhead.py --folder /some/disk --json

A trial of the study's own loop takes a checkpoint after every evaluation. The share at the default
setting is what one checkpoint takes over the ten minutes that lie between two of them; steps after
a checkpoint are compared with the others, since the disk may still be busy.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from harness.data import prepare
from harness.study.load import load_study
from harness.study.placement import CheckpointSettings
from harness.study.study_file import find_variant
from harness.study.trial import trial_spec
from harness.training.backends.protocol import WorkerContext
from harness.training.loop import train

STUDY = Path(__file__).parent.parent / "studies" / "quickstart.toml"

# With a vocabulary of 2,048: 10 million parameters.
MODEL = "model={hidden_size=256, num_layers=4, num_heads=8, feed_forward_size=512, num_experts=8}"


def main(
    checkpoints: Annotated[int, typer.Option(help="how many are taken")] = 8,
    steps_between: Annotated[int, typer.Option(help="steps between two evaluations")] = 4,
    variant: Annotated[str, typer.Option(help="a variant of the quickstart")] = "adamw",
    folder: Annotated[Path | None, typer.Option(help="where to write; default: /tmp")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    study = load_study(
        STUDY,
        [
            MODEL,
            # A checkpoint after every second evaluation, so that half the intervals follow none.
            f"training.steps={(2 * checkpoints + 1) * steps_between}",
            f"training.evaluation_every={steps_between}",
            "training.evaluation_windows=1",
            f"resources.cpus_per_worker={os.cpu_count() or 1}",
        ],
    )
    dataset = prepare(study.data)
    spec = trial_spec(study, find_variant(study, variant), 0, dataset.manifest.sha256)
    with tempfile.TemporaryDirectory(dir=folder) as where:
        context = WorkerContext(
            dataset.path,
            cpus=os.cpu_count() or 1,
            checkpoints=where,
            checkpoint_every_minutes=0.0,
            checkpoint_every_steps=2 * steps_between,
        )
        reports = list(train(spec, context))
        newest = max(Path(where).iterdir())
        size = sum(path.stat().st_size for path in newest.iterdir())
    spent = [b.checkpoint_time_s - a.checkpoint_time_s for a, b in pairwise(reports)]
    times = [report.step_time_s for report in reports[1:]]
    timed = [(took > 0, time) for took, time in zip(spent, times, strict=True) if time is not None]
    after = statistics.median(time for follows, time in timed if follows)
    others = statistics.median(time for follows, time in timed if not follows)
    took = statistics.median(seconds for seconds in spent if seconds)
    every_s = CheckpointSettings().every_minutes * 60
    result = {
        "checkpoints": sum(seconds > 0 for seconds in spent),
        "checkpoint_bytes": size,
        "checkpoint_s": took,
        "bytes_per_s": size / took,
        "share_of_this_run": reports[-1].checkpoint_time_s / reports[-1].train_time_s,
        "share_at_the_default": took / every_s,
        "step_after_a_checkpoint_ratio": after / others,
    }
    if as_json:
        print(json.dumps(result))
    else:
        print(
            f"a checkpoint of {size / 1e6:.0f} MB takes {took:.2f} s ({size / took / 1e6:.0f} "
            f"MB/s): {took / every_s:.2%} of training at one every {every_s / 60:.0f} minutes, "
            f"{result['share_of_this_run']:.1%} at one every {2 * steps_between} steps as here; "
            f"a step after one takes {after / others:.3f} of the others"
        )


if __name__ == "__main__":
    typer.run(main)
