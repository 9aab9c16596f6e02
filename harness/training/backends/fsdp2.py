"""Fully sharded data parallelism (FSDP2): every worker holds some rows of every weight."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from harness.study.trial import TrialSpec
from harness.training.backends.accelerator import AcceleratorBackend, open_accelerator
from harness.training.backends.protocol import MakeOptimizer, WorkerContext
from models import ModelOutput
from optimizers import NamedOptimizer


class Fsdp2Backend(AcceleratorBackend):
    """`fully_shard` on every block and on the whole.

    Accelerate opens the process group. Its FSDP plugin is left out: on a CPU it is ignored in
    silence, while `fully_shard` itself works there with gloo.
    """

    name = "fsdp2"

    def __init__(self, spec: TrialSpec, context: WorkerContext) -> None:
        super().__init__(spec, open_accelerator(spec, context))

    def prepare(self, model: nn.Module, make_optimizer: MakeOptimizer) -> NamedOptimizer:
        model.to(self.device)
        self.module = model
        if self.num_workers > 1:
            mesh = init_device_mesh(self.device.type, (self.num_workers,))
            for block in model.get_submodule("blocks").children():
                fully_shard(block, mesh=mesh)
            fully_shard(model, mesh=mesh)
        self.optimizer = make_optimizer(list(model.named_parameters()))
        if self.num_workers > 1:
            self.optimizer.bind()
        return self.optimizer

    def _exchange(self, last: bool) -> AbstractContextManager[None]:
        if isinstance(self.module, FSDPModule):
            self.module.set_requires_gradient_sync(last)
        return nullcontext()

    def _forward(self, tokens_BT: Tensor, targets_BT: Tensor) -> ModelOutput:
        with self.accelerator.autocast():
            return super()._forward(tokens_BT, targets_BT)

    def describe(self) -> dict[str, Any]:
        sharded = isinstance(self.module, FSDPModule) if hasattr(self, "module") else None
        return {**super().describe(), "sharded": sharded}
