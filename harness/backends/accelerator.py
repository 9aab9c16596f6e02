"""Opening and resetting Accelerate, which keeps process-wide singletons."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor

from harness.backends.protocol import COLLECTIVE_TIMEOUT_S, WorkerContext
from harness.config import TrialSpec


def open_accelerator(
    spec: TrialSpec,
    context: WorkerContext,
    *,
    handlers: Sequence[Any] = (),
    deepspeed_plugin: Any = None,
) -> Accelerator:
    """An Accelerator whose processes know of each other.

    Under gloo `Accelerator()` without `cpu=True` lets every rank believe that it is alone, and with
    `cpu=True` it ignores a DeepSpeed plugin in silence; the preflight compares what it says with an
    all-reduce.
    """
    on_cpu, alone = spec.gpus_per_worker == 0, context.num_workers == 1 and not deepspeed_plugin
    torch.set_num_threads(spec.cpus_per_worker)
    process_group = InitProcessGroupKwargs(
        backend="gloo" if on_cpu else "nccl", timeout=timedelta(seconds=COLLECTIVE_TIMEOUT_S)
    )
    accelerator = Accelerator(
        cpu=on_cpu and deepspeed_plugin is None,
        mixed_precision="bf16" if spec.training.precision == "bf16" else "no",
        deepspeed_plugin=deepspeed_plugin,
        kwargs_handlers=[*handlers, *([] if alone else [process_group])],
    )
    # Accelerate sets its own guess when OMP_NUM_THREADS is unset.
    torch.set_num_threads(spec.cpus_per_worker)
    return accelerator


def sum_over_workers(values: Tensor) -> Tensor:
    """The elementwise sum over the gang, in place where there is one."""
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values


def reset_accelerate() -> None:
    """Gives back the process group and the singletons, so that the next trial starts afresh."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
