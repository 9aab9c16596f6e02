"""Data parallelism through Accelerate: whole weights on every worker."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch.distributed as dist
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from harness.study.trial import TrialSpec
from harness.training.backends.accelerator import AcceleratorBackend, open_accelerator
from harness.training.backends.protocol import MakeOptimizer, WorkerContext
from optimizers import MatrixOptimizer, NamedOptimizer
from optimizers.sharing import choose_sharing, group_of_node


class DdpBackend(AcceleratorBackend):
    """`Accelerator` with DistributedDataParallel, gloo on CPU and NCCL on CUDA.

    Gradients are averaged by an all-reduce, except those of shared matrices when all workers share
    the work: they go to the matrix's owner only (`exchange = "owner"`), bucket by bucket while the
    backward pass goes on, and the owner's update comes back, at the bytes of an all-reduce in all.
    """

    name = "ddp"

    def __init__(self, spec: TrialSpec, context: WorkerContext) -> None:
        ddp = DistributedDataParallelKwargs(gradient_as_bucket_view=True)
        super().__init__(spec, open_accelerator(spec, context, handlers=[ddp]))

    def prepare(self, model: nn.Module, make_optimizer: MakeOptimizer) -> NamedOptimizer:
        model.to(self.device)
        self.optimizer = make_optimizer(list(model.named_parameters()))
        if self.num_workers > 1:
            self._bind(model)
        # The model is placed already; to do it, Accelerate would import distributed tensors first.
        self.module = self.accelerator.prepare_model(model, device_placement=False)
        return self.optimizer

    def _bind(self, model: nn.Module) -> None:
        if not isinstance(self.optimizer, MatrixOptimizer):
            self.optimizer.bind()
            return
        sharing = choose_sharing(self.optimizer.exchange, device=self.device)
        if sharing == "owner":
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
                model, self.optimizer.matrix_names
            )
            # A group of its own: its collectives and those of DistributedDataParallel start in the
            # backward pass, and need not start in the same order on every worker.
            self.optimizer.bind(process_group=dist.new_group(), gradients="local")
        elif sharing == "node":
            self.optimizer.bind(process_group=group_of_node(device=self.device))
        else:
            self.optimizer.bind()

    def _exchange(self, last: bool) -> AbstractContextManager[None]:
        if last and isinstance(self.optimizer, MatrixOptimizer):
            self.optimizer.reduce_during_backward()
        return nullcontext() if last else self.accelerator.no_sync(self.module)

    def rehearse(self, tokens_BT: Tensor, targets_BT: Tensor) -> None:
        """DistributedDataParallel orders its buckets anew after its first backward pass.

        Where an element lies in a bucket decides in which order the workers' gradients are added,
        and with it the last bit of a sum over three or more.
        """
        if self.num_workers > 2:
            self._forward(tokens_BT, targets_BT).loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.zero_grad(set_to_none=True)
