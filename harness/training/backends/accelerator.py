"""Accelerate opened and reset (it keeps process-wide singletons), and a backend around it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor, nn

from harness.study.trial import TrialSpec
from harness.training.backends.inspection import Inspection, inspect_whole, whole_weights
from harness.training.backends.protocol import COLLECTIVE_TIMEOUT_S, WorkerContext
from models import ModelOutput
from optimizers import NamedOptimizer


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
    on_cpu, alone = context.gpus == 0, context.num_workers == 1 and not deepspeed_plugin
    autocast = spec.training.precision == "bf16" and not deepspeed_plugin
    torch.set_num_threads(context.cpus)
    process_group = InitProcessGroupKwargs(
        backend="gloo" if on_cpu else "nccl", timeout=timedelta(seconds=COLLECTIVE_TIMEOUT_S)
    )
    accelerator = Accelerator(
        cpu=on_cpu and deepspeed_plugin is None,
        # With a DeepSpeed plugin Accelerate's "bf16" is no autocast: it turns DeepSpeed's own bf16
        # on, with bf16 weights and gradients. DeepSpeed's configuration asks for autocast.
        mixed_precision="bf16" if autocast else "no",
        deepspeed_plugin=deepspeed_plugin,
        kwargs_handlers=[*handlers, *([] if alone else [process_group])],
    )
    # Accelerate sets its own guess when OMP_NUM_THREADS is unset.
    torch.set_num_threads(context.cpus)
    return accelerator


class AcceleratorBackend:
    """What all backends do alike, around an Accelerator that has opened the gang.

    A subclass prepares the model and says how a forward pass runs and gradients are exchanged.
    """

    name: str
    module: nn.Module
    optimizer: NamedOptimizer

    def __init__(self, spec: TrialSpec, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.device: torch.device = accelerator.device
        self.rank: int = accelerator.process_index
        self.num_workers: int = accelerator.num_processes
        self.accumulation_steps = spec.training.accumulation_steps

    def micro_step(self, tokens_BT: Tensor, targets_BT: Tensor, *, last: bool) -> ModelOutput:
        with self._exchange(last):
            output = self._forward(tokens_BT, targets_BT)
            (output.loss / self.accumulation_steps).backward()  # type: ignore[no-untyped-call]
        return output

    def _exchange(self, last: bool) -> AbstractContextManager[None]:
        """Around a backward pass: gradients are exchanged after the last micro-batch only."""
        raise NotImplementedError

    def _forward(self, tokens_BT: Tensor, targets_BT: Tensor) -> ModelOutput:
        output: ModelOutput = self.module(tokens_BT, targets_BT)
        return output

    def update(self, *, clip_norm: float) -> Tensor:
        norm = self.optimizer.clip_gradients(clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    @torch.no_grad()
    def evaluate(self, tokens_BT: Tensor, targets_BT: Tensor) -> ModelOutput:
        return self._forward(tokens_BT, targets_BT)

    def rehearse(self, tokens_BT: Tensor, targets_BT: Tensor) -> None:
        """Nothing: these libraries do the first step as every other."""

    def sum_over_workers(self, values: Tensor) -> Tensor:
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(values)
        return values

    def describe(self) -> dict[str, Any]:
        return {
            "backend": self.name,
            "distributed_type": self.accelerator.distributed_type.value,
            "num_workers": self.num_workers,
            "device": str(self.device),
            "threads": torch.get_num_threads(),
        }

    def inspect(self) -> Inspection:
        return inspect_whole(self.module)

    def forward_weights(self) -> dict[str, Tensor]:
        return whole_weights(self.module)

    def publish_weights(self) -> None:
        """Nothing: where the fragments are the model's own weights, it reads them anyway."""

    def close(self) -> None:
        """Gives back the process group and the singletons, so that the next trial starts afresh.

        The module goes first. As its last user, DistributedDataParallel's reducer would end the
        process group later, while it holds Python's lock and waits for a gloo thread that may wait
        for the same lock (torch 2.13): the worker would hang, seldom, on a busy machine.
        """
        vars(self).pop("module", None)
        self.accelerator.free_memory()  # collects garbage too
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
