"""The real libraries, made to do what they do in silence when they are asked otherwise."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from harness.data import BatchSampler
from harness.training.backends import accelerator, deepspeed, fsdp2
from harness.training.backends.protocol import MakeOptimizer
from harness.training.checkpoint import saving
from models import ModelOutput
from optimizers import NamedOptimizer

Patch = Any
prepare_model = Accelerator.prepare_model


def opened_with(**options: Any) -> Patch:
    """Accelerate opened with other options than ours."""
    return mock.patch.object(
        accelerator, "Accelerator", lambda **ours: Accelerator(**{**ours, **options})
    )


def wrapped_by(prepare: Callable[..., nn.Module]) -> Patch:
    """Another way to prepare the model than Accelerate's own."""
    return mock.patch.object(Accelerator, "prepare_model", prepare)


def compressed(self: Accelerator, model: nn.Module, **options: Any) -> nn.Module:
    wrapped = prepare_model(self, model, **options)
    wrapped.register_comm_hook(None, fp16_compress_hook)
    return wrapped


def unwrapped(self: Accelerator, model: nn.Module, **options: Any) -> nn.Module:
    return prepare_model(self, model, evaluation_mode=True, **options)


def copied(self: Accelerator, model: nn.Module, **options: Any) -> nn.Module:
    return prepare_model(self, copy.deepcopy(model), **options)


def sharded(**options: Any) -> Patch:
    """`fully_shard` with other options than ours."""
    return mock.patch.object(fsdp2, "fully_shard", lambda *a, **k: fully_shard(*a, **k, **options))


def sharding_nothing(module: nn.Module, **options: Any) -> Any:
    return fully_shard(module, ignored_params=set(module.parameters()), **options)


def optimizer_first(
    self: fsdp2.Fsdp2Backend, model: nn.Module, make_optimizer: MakeOptimizer
) -> NamedOptimizer:
    """Made before the parameters are replaced by sharded ones, of which it knows nothing."""
    optimizer = make_optimizer(list(model.named_parameters()))
    return prepare_sharded(self, model, lambda _: optimizer)


prepare_sharded = fsdp2.Fsdp2Backend.prepare


def configured(change: Callable[[dict[str, Any]], None]) -> Patch:
    """DeepSpeed with another configuration than ours."""
    ours = deepspeed.deepspeed_config

    def changed(*arguments: Any) -> dict[str, Any]:
        config = ours(*arguments)
        change(config)
        return config

    return mock.patch.object(deepspeed, "deepspeed_config", changed)


def stepping_twice(self: accelerator.AcceleratorBackend, *, clip_norm: float) -> torch.Tensor:
    self.optimizer.step()
    return update(self, clip_norm=clip_norm)


def same_rows(self: BatchSampler, step: int, *, rank: int, workers: int) -> Any:
    """As a data loader without a distributed sampler: every worker reads what worker 0 reads."""
    del rank
    return rank_indices(self, step, rank=0, workers=workers)


rank_indices = BatchSampler.rank_indices
update = accelerator.AcceleratorBackend.update
REDUCED_IN_BF16 = MixedPrecisionPolicy(reduce_dtype=torch.bfloat16)

forward = accelerator.AcceleratorBackend._forward


def not_a_number(
    self: accelerator.AcceleratorBackend, tokens: torch.Tensor, targets: torch.Tensor
) -> ModelOutput:
    """The loss of worker 1 in step 2, and of no other worker."""
    output = forward(self, tokens, targets)
    in_step_2 = torch.is_grad_enabled() and self.optimizer.counters["optimizer_steps"] == 1
    if not (self.rank == 1 and in_step_2):
        return output
    nan = float("nan")
    return output._replace(loss=output.loss * nan, cross_entropy=output.cross_entropy * nan)


def no_room(child: Any, ranges: Any, backend: Any) -> Any:
    """The disk of worker 1 is full."""
    return (None, "no room") if backend.rank == 1 else write_own(child, ranges, backend)


write_own = saving._write_own


WRONG: dict[str, Callable[[], Patch]] = {
    "every rank alone": lambda: opened_with(cpu=False),
    "deepspeed ignored": lambda: opened_with(cpu=True),
    "bf16 engine": lambda: opened_with(mixed_precision="bf16"),
    "no autocast": lambda: opened_with(mixed_precision="no"),
    "not wrapped": lambda: wrapped_by(unwrapped),
    "compressed": lambda: wrapped_by(compressed),
    "another copy": lambda: wrapped_by(copied),
    "nothing sharded": lambda: mock.patch.object(fsdp2, "fully_shard", sharding_nothing),
    "reduced in bf16": lambda: sharded(mp_policy=REDUCED_IN_BF16),
    "optimizer first": lambda: mock.patch.object(fsdp2.Fsdp2Backend, "prepare", optimizer_first),
    "another stage": lambda: configured(lambda c: c["zero_optimization"].update(stage=1)),
    "safe modules": lambda: configured(
        lambda c: c["torch_autocast"].pop("lower_precision_safe_modules")
    ),
    "bf16 on its way": lambda: configured(lambda c: c.update(communication_data_type="bf16")),
    "same rows": lambda: mock.patch.object(BatchSampler, "rank_indices", same_rows),
    "nan on worker 1": lambda: mock.patch.object(
        accelerator.AcceleratorBackend, "_forward", not_a_number
    ),
    "no room on worker 1": lambda: mock.patch.object(saving, "_write_own", no_room),
    "stepping twice": lambda: mock.patch.object(
        accelerator.AcceleratorBackend, "update", stepping_twice
    ),
}
