"""Fully sharded data parallelism (FSDP2): every worker holds some rows of every weight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from harness.study.trial import TrialSpec
from harness.training.backends.accelerator import AcceleratorBackend, open_accelerator
from harness.training.backends.inspection import Inspection, dtype_names
from harness.training.backends.protocol import MakeOptimizer, WorkerContext
from models import ModelOutput
from models.moe import Experts
from optimizers import NamedOptimizer

# Autocast rounds every weight of these to bf16 before its first product, so they may travel so.
# Norms, router and embedding are read in fp32, and the head's gradient is summed in fp32.
CAST_WHOLE = (nn.Linear, Experts)
TRAVELS_IN_BF16 = MixedPrecisionPolicy(
    param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
)


class Fsdp2Backend(AcceleratorBackend):
    """`fully_shard` on every block and on the whole.

    In bf16 the matrices of a block are gathered in bf16, half the bytes, and their gradients are
    reduced in fp32. The products are autocast's own, to the last bit: it would round the same
    weights after they arrived.

    Accelerate opens the process group. Its FSDP plugin is left out: on a CPU it is ignored in
    silence, while `fully_shard` itself works there with gloo.
    """

    name = "fsdp2"

    def __init__(self, spec: TrialSpec, context: WorkerContext) -> None:
        super().__init__(spec, open_accelerator(spec, context))
        self.in_bf16 = spec.training.precision == "bf16"

    def prepare(self, model: nn.Module, make_optimizer: MakeOptimizer) -> NamedOptimizer:
        model.to(self.device)
        self.module = model
        if self.num_workers > 1:
            mesh = init_device_mesh(self.device.type, (self.num_workers,))
            for block in model.get_submodule("blocks").children():
                products: list[nn.Module] = [
                    m for m in block.modules() if isinstance(m, CAST_WHOLE)
                ]
                if self.in_bf16 and products:
                    fully_shard(products, mesh=mesh, mp_policy=TRAVELS_IN_BF16)
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

    def inspect(self) -> Inspection:
        if not isinstance(self.module, FSDPModule):
            return super().inspect()
        parameters = self._resharded_parameters()
        reduced = dtype_names(_reduce_dtypes(self.module))
        return replace(
            super().inspect(),
            wrapper="fully_shard",
            sharded=all(isinstance(parameter, DTensor) for parameter in parameters.values()),
            gradients=reduced,
            exchange=reduced,
        )

    def forward_weights(self) -> dict[str, Tensor]:
        return {
            name: parameter.to_local() if isinstance(parameter, DTensor) else parameter
            for name, parameter in self._resharded_parameters().items()
        }

    def publish_weights(self) -> None:
        """Frees what an evaluation gathered: it would be read again in the next forward pass."""
        self._resharded_parameters()

    def _resharded_parameters(self) -> dict[str, Tensor]:
        """After an evaluation the root's own parameters would still be gathered ones."""
        for module in self.module.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
        return {name: parameter.detach() for name, parameter in self.module.named_parameters()}


def _reduce_dtypes(module: nn.Module) -> Iterator[torch.dtype]:
    """The dtype in which each parameter's gradient is reduced, and accumulated until then."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            group = part._get_fsdp_state()._fsdp_param_group
            for parameter in group.fsdp_params if group is not None else ():
                policy = parameter.mp_policy
                yield policy.reduce_dtype or policy.param_dtype or parameter.sharded_param.dtype
