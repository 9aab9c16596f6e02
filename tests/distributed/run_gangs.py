"""Trains trials in gangs of real processes, forked from this one, which imported everything once.

Reads a request a line from standard input, `{"study", "workers", "folder", "trials": [...]}`, and
answers each with a line, `ok` or `failed`, when worker 0 has written `<index>.json` for every trial
to the folder. Importing torch and DeepSpeed in every worker took longer than the trials.
"""

import dataclasses
import gc
import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

os.environ["DS_ACCELERATOR"] = "cpu"  # read at the import, as in the backend

import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from wrong_libraries import WRONG

from harness.data import prepare
from harness.study.load import load_study
from harness.study.study_file import find_variant
from harness.study.trial import TrialSpec, trial_spec
from harness.training.backends.protocol import WorkerContext
from harness.training.batches import BatchError
from harness.training.loop import train
from harness.training.preflight import PreflightError
from harness.verification.gangs import free_ports, import_once

OF_CHECKPOINTS = (
    "resume_from",
    "save_to",
    "stop_at_step",
    "checkpoints",
    "checkpoint_every_minutes",
    "checkpoint_every_steps",
)


def run_worker(request: dict[str, Any], ports: list[int], rank: int) -> None:
    workers = request["workers"]
    for index, (trial, port) in enumerate(zip(request["trials"], ports, strict=True)):
        variant, *overrides = trial["request"].split(",")
        overrides.append(f"resources.workers={workers}")
        study = load_study(Path(request["study"]), overrides)
        dataset = prepare(study.data)
        spec = trial_spec(study, find_variant(study, variant), 0, dataset.manifest.sha256)
        context = WorkerContext(
            dataset.path, rank=rank, num_workers=workers, local_rank=rank, master_port=port
        )
        asked = {key: trial[key] for key in OF_CHECKPOINTS if trial.get(key) is not None}
        context = dataclasses.replace(context, **asked)
        with WRONG[trial["wrong"]]() if "wrong" in trial else nullcontext():
            found = run_trial(spec, context)
        if rank == 0:
            (Path(request["folder"]) / f"{index}.json").write_text(json.dumps(found))


def run_trial(spec: TrialSpec, context: WorkerContext) -> dict[str, Any]:
    training, reports = train(spec, context), []
    while True:
        try:
            reports.append(next(training).model_dump(mode="json"))
        except StopIteration as end:
            return {"reports": reports, "outcome": end.value.model_dump(mode="json")}
        except (PreflightError, BatchError) as error:
            return {"refused": str(error)}


def destroy_alone(destroy: Callable[..., None]) -> Callable[..., None]:
    """Refuses to end a process group that a module still uses: see `AcceleratorBackend.close`."""

    def checked(*arguments: Any) -> None:
        users = [x for x in gc.get_objects() if isinstance(x, DistributedDataParallel)]
        assert not users, "the process group would end later, with its last user, and may deadlock"
        destroy(*arguments)

    return checked


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # DeepSpeed prints lines of its own
    import_once({"ddp", "zero3", "fsdp2"})
    dist.destroy_process_group = destroy_alone(dist.destroy_process_group)
    fork = multiprocessing.get_context("fork")
    for line in sys.stdin:
        request = json.loads(line)
        ports = free_ports(len(request["trials"]))
        gang = [
            fork.Process(target=run_worker, args=(request, ports, rank))
            for rank in range(request["workers"])
        ]
        for process in gang:
            process.start()
        for process in gang:
            process.join()
        failed = any(process.exitcode for process in gang)
        print("failed" if failed else "ok", file=answers, flush=True)


if __name__ == "__main__":
    main()
