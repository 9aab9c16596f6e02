"""Data parallelism through Accelerate: whole weights on every worker."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from harness.backends.accelerator import open_accelerator, reset_accelerate, sum_over_workers
from harness.backends.protocol import MakeOptimizer, WorkerContext
from harness.config import TrialSpec
from models import ModelOutput
from optimizers import Muon, NamedOptimizer


class DdpBackend:
    """`Accelerator` with DistributedDataParallel, gloo on CPU and NCCL on CUDA.

    Gradients are averaged by an all-reduce, except those of Muon's matrices when Muon shares its
    work: they go to the matrix's owner only (`exchange = "owner"`), and the owner's update comes
    back, at the bytes of an all-reduce in all.
    """

    def __init__(self, spec: TrialSpec, context: WorkerContext) -> None:
        ddp = DistributedDataParallelKwargs(gradient_as_bucket_view=True)
        self.accelerator: Accelerator = open_accelerator(spec, context, handlers=[ddp])
        self.device: torch.device = self.accelerator.device
        self.rank: int = self.accelerator.process_index
        self.num_workers: int = self.accelerator.num_processes
        self.accumulation_steps = spec.training.accumulation_steps

    def prepare(self, model: nn.Module, make_optimizer: MakeOptimizer) -> NamedOptimizer:
        model.to(self.device)
        self.optimizer = make_optimizer(list(model.named_parameters()))
        reduced_by_muon = self._reduced_by_muon()
        if self.num_workers > 1:
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
                model, reduced_by_muon
            )
            self.optimizer.bind(gradients="local" if reduced_by_muon else "averaged")
        # The model is placed already; to do it, Accelerate would import distributed tensors first.
        self.module: nn.Module = self.accelerator.prepare_model(model, device_placement=False)
        return self.optimizer

    def _reduced_by_muon(self) -> list[str]:
        """Parameters whose gradients the optimizer itself brings to their owners."""
        if not isinstance(self.optimizer, Muon) or self.optimizer.spec.exchange == "replicated":
            return []
        return [route.name for route in self.optimizer.routes if route.algorithm == "muon"]

    def micro_step(self, tokens_BT: Tensor, targets_BT: Tensor, *, last: bool) -> ModelOutput:
        exchange = nullcontext() if last else self.accelerator.no_sync(self.module)
        with exchange:
            output: ModelOutput = self.module(tokens_BT, targets_BT)
            (output.loss / self.accumulation_steps).backward()  # type: ignore[no-untyped-call]
        return output

    def update(self, *, clip_norm: float) -> Tensor:
        norm = self.optimizer.clip_gradients(clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    @torch.no_grad()
    def evaluate(self, tokens_BT: Tensor, targets_BT: Tensor) -> ModelOutput:
        output: ModelOutput = self.module(tokens_BT, targets_BT)
        return output

    def sum_over_workers(self, values: Tensor) -> Tensor:
        return sum_over_workers(values)

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
        reset_accelerate()
