"""Fully sharded data parallelism (FSDP2): every worker holds some rows of every weight."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from harness.backends.accelerator import open_accelerator, reset_accelerate, sum_over_workers
from harness.backends.protocol import MakeOptimizer, WorkerContext
from harness.config import TrialSpec
from models import ModelOutput
from optimizers import NamedOptimizer


class Fsdp2Backend:
    """`fully_shard` on every block and on the whole.

    Accelerate opens the process group. Its FSDP plugin is left out: on a CPU it is ignored in
    silence, while `fully_shard` itself works there with gloo.
    """

    def __init__(self, spec: TrialSpec, context: WorkerContext) -> None:
        self.accelerator = open_accelerator(spec, context)
        self.device: torch.device = self.accelerator.device
        self.rank: int = self.accelerator.process_index
        self.num_workers: int = self.accelerator.num_processes
        self.accumulation_steps = spec.training.accumulation_steps

    def prepare(self, model: nn.Module, make_optimizer: MakeOptimizer) -> NamedOptimizer:
        model.to(self.device)
        self.module: nn.Module = model
        if self.num_workers > 1:
            mesh = init_device_mesh(self.device.type, (self.num_workers,))
            for block in model.get_submodule("blocks").children():
                fully_shard(block, mesh=mesh)
            fully_shard(model, mesh=mesh)
        self.optimizer = make_optimizer(list(model.named_parameters()))
        if self.num_workers > 1:
            self.optimizer.bind()
        return self.optimizer

    def micro_step(self, tokens_BT: Tensor, targets_BT: Tensor, *, last: bool) -> ModelOutput:
        if isinstance(self.module, FSDPModule):
            self.module.set_requires_gradient_sync(last)
        with self.accelerator.autocast():
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
        with self.accelerator.autocast():
            output: ModelOutput = self.module(tokens_BT, targets_BT)
        return output

    def sum_over_workers(self, values: Tensor) -> Tensor:
        return sum_over_workers(values)

    def describe(self) -> dict[str, Any]:
        sharded = isinstance(self.module, FSDPModule) if hasattr(self, "module") else None
        return {
            "backend": "fsdp2",
            "distributed_type": self.accelerator.distributed_type.value,
            "sharded": sharded,
            "num_workers": self.num_workers,
            "device": str(self.device),
            "threads": torch.get_num_threads(),
        }

    def close(self) -> None:
        self.accelerator.free_memory()
        reset_accelerate()
