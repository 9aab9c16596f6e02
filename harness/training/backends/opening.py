"""Opens the backend that a trial names, and leaves the process as it was."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from harness.errors import UserError
from harness.study.trial import TrialSpec
from harness.training.backends.protocol import Backend, WorkerContext


@contextmanager
def open_backend(spec: TrialSpec, context: WorkerContext) -> Iterator[Backend]:
    """The backend that the spec names, for one trial; afterwards the process is as before.

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    if context.gpus and not torch.cuda.is_available():
        raise UserError(
            f"resources.gpus_per_worker is {context.gpus:g} and torch sees no CUDA device: set it "
            "to 0 for CPU, or install a CUDA build of torch"
        )
    before = dict(os.environ)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        os.environ.pop(name, None)
    # DeepSpeed wants a process group also for one worker.
    os.environ.update(context.environment(alone=spec.training.backend != "deepspeed"))
    backend: Backend | None = None
    try:
        backend = _create(spec, context)
        yield backend
    finally:
        if backend is not None:
            backend.close()
        os.environ.clear()
        os.environ.update(before)


def _create(spec: TrialSpec, context: WorkerContext) -> Backend:
    """Imports what the spec names, and nothing else: DeepSpeed takes seconds."""
    match spec.training.backend:
        case "ddp":
            from harness.training.backends.ddp import DdpBackend

            return DdpBackend(spec, context)
        case "fsdp2":
            from harness.training.backends.fsdp2 import Fsdp2Backend

            return Fsdp2Backend(spec, context)
        case "deepspeed":
            from harness.training.backends.deepspeed import DeepSpeedBackend

            return DeepSpeedBackend(spec, context)
