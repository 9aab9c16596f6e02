"""What a library really does with a model, read from its objects and not from our settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Inspection:
    """What holds the model, and in which dtypes.

    Args:
        wrapper: What the library put around the module: `none`, `DistributedDataParallel`,
            `fully_shard`, `DeepSpeedEngine`.
        sharded: Whether this worker holds a part of the weights only.
        zero_stage: Of DeepSpeed's optimizer, by its class; None without DeepSpeed.
        weights: Dtypes of the weights that the forward pass starts from.
        gradients: Dtypes in which the library accumulates gradients.
        exchange: Dtypes in which it sends gradients, or the name of a hook that decides it.
    """

    wrapper: str
    sharded: bool
    zero_stage: int | None
    weights: tuple[str, ...]
    gradients: tuple[str, ...]
    exchange: tuple[str, ...]


def dtype_names(dtypes: Iterable[torch.dtype]) -> tuple[str, ...]:
    """`float32`, `bfloat16` ..: each once, sorted."""
    return tuple(sorted({str(dtype).removeprefix("torch.") for dtype in dtypes}))


def inspect_whole(module: nn.Module) -> Inspection:
    """A module that holds all weights, alone or in DistributedDataParallel."""
    weights = dtype_names(parameter.dtype for parameter in module.parameters())
    wrapper, exchange = "none", weights
    if isinstance(module, DistributedDataParallel):
        hooks: list[tuple[Any, Any]] = module._comm_hooks
        # Without a hook a bucket has its gradients' dtype.
        wrapper, exchange = type(module).__name__, tuple(h.__name__ for h, _ in hooks) or weights
    return Inspection(
        wrapper=wrapper,
        sharded=False,
        zero_stage=None,
        weights=weights,
        gradients=weights,  # a leaf accumulates in its own dtype
        exchange=exchange,
    )


def whole_weights(module: nn.Module) -> dict[str, Tensor]:
    """Parameter name -> the parameter, of a module that holds all weights."""
    inner = module.module if isinstance(module, DistributedDataParallel) else module
    return {name: parameter.detach() for name, parameter in inner.named_parameters()}
