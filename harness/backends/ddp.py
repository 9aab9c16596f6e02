"""Data parallelism through Accelerate: whole weights on every worker, averaged gradients."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn

from harness.backends.protocol import COLLECTIVE_TIMEOUT_S, MakeOptimizer, WorkerContext
from harness.config import TrialSpec
from models import ModelOutput


class DdpBackend:
    """`Accelerator` with DistributedDataParallel, gloo on CPU and NCCL on CUDA.

    Under gloo `Accelerator()` without `cpu=True` lets every rank believe that it is alone; the
    preflight compares `describe()` with the gang.
    """

    def __init__(self, spec: TrialSpec, context: WorkerContext) -> None:
        on_cpu = spec.gpus_per_worker == 0
        torch.set_num_threads(spec.cpus_per_worker)
        handlers: list[Any] = [
            DistributedDataParallelKwargs(gradient_as_bucket_view=True)
        ]
        if context.num_workers > 1:
            handlers.append(
                InitProcessGroupKwargs(
                    backend="gloo" if on_cpu else "nccl",
                    timeout=timedelta(seconds=COLLECTIVE_TIMEOUT_S),
                )
            )
        self.accelerator = Accelerator(
            cpu=on_cpu,
            mixed_precision="bf16" if spec.training.precision == "bf16" else "no",
            kwargs_handlers=handlers,
        )
        torch.set_num_threads(spec.cpus_per_worker)
        self.device = self.accelerator.device
        self.rank = self.accelerator.process_index
        self.num_workers = self.accelerator.num_processes
        self.accumulation_steps = spec.training.accumulation_steps

    def prepare(self, model: nn.Module, make_optimizer: MakeOptimizer) -> torch.optim.Optimizer:
        model.to(self.device)
        self.named_parameters = list(model.named_parameters())
        self.optimizer = make_optimizer(self.named_parameters)
        self.module: nn.Module = self.accelerator.prepare_model(model)
        return self.optimizer

    def held_parameters(self) -> list[tuple[str, nn.Parameter]]:
        return self.named_parameters

    def micro_step(self, tokens_BT: Tensor, targets_BT: Tensor, *, last: bool) -> ModelOutput:
        exchange = nullcontext() if last else self.accelerator.no_sync(self.module)
        with exchange:
            output: ModelOutput = self.module(tokens_BT, targets_BT)
            (output.loss / self.accumulation_steps).backward()
        return output

    def update(self, *, clip_norm: float) -> Tensor:
        parameters = [parameter for _, parameter in self.named_parameters]
        norm = nn.utils.clip_grad_norm_(parameters, clip_norm or float("inf"))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    @torch.no_grad()
    def evaluate(self, tokens_BT: Tensor, targets_BT: Tensor) -> ModelOutput:
        output: ModelOutput = self.module(tokens_BT, targets_BT)
        return output

    def sum_over_workers(self, values: Tensor) -> Tensor:
        if self.num_workers > 1:
            torch.distributed.all_reduce(values)
        return values

    def describe(self) -> dict[str, Any]:
        return {
            "backend": "ddp",
            "distributed_type": self.accelerator.distributed_type.value,
            "num_workers": self.num_workers,
            "device": str(self.device),
            "threads": torch.get_num_threads(),
        }

    def close(self) -> None:
        self.accelerator.free_memory()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
