"""Data parallelism through Accelerate: whole weights on every worker."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from accelerate.utils import DistributedDataParallelKwargs
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from harness.study.trial import TrialSpec
from harness.training.backends.accelerator import AcceleratorBackend, open_accelerator
from harness.training.backends.protocol import MakeOptimizer, WorkerContext
from optimizers import Muon, NamedOptimizer


class DdpBackend(AcceleratorBackend):
    """`Accelerator` with DistributedDataParallel, gloo on CPU and NCCL on CUDA.

    Gradients are averaged by an all-reduce, except those of Muon's matrices when Muon shares its
    work: they go to the matrix's owner only (`exchange = "owner"`), and the owner's update comes
    back, at the bytes of an all-reduce in all.
    """

    name = "ddp"

    def __init__(self, spec: TrialSpec, context: WorkerContext) -> None:
        ddp = DistributedDataParallelKwargs(gradient_as_bucket_view=True)
        super().__init__(spec, open_accelerator(spec, context, handlers=[ddp]))

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
        self.module = self.accelerator.prepare_model(model, device_placement=False)
        return self.optimizer

    def _reduced_by_muon(self) -> list[str]:
        """Parameters whose gradients the optimizer itself brings to their owners."""
        if not isinstance(self.optimizer, Muon) or self.optimizer.spec.exchange == "replicated":
            return []
        return [route.name for route in self.optimizer.routes if route.algorithm == "muon"]

    def _exchange(self, last: bool) -> AbstractContextManager[None]:
        return nullcontext() if last else self.accelerator.no_sync(self.module)
