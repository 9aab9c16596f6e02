"""What a worker holds of a parameter: a contiguous range of its flattened elements."""

from __future__ import annotations

import hashlib
import math
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor

from optimizers.plan import Layout, Range

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


@dataclass(frozen=True, eq=False)
class Fragment:
    """Elements `[start, stop)` of the flattened parameter `name`, as they lie on this worker.

    A worker that holds nothing of a parameter still has an (empty) fragment of it, which says in
    which storage, and so in which step of the backend, the parameter is updated.

    Args:
        name: The parameter.
        start, stop: The range, in elements of the flattened logical parameter.
        storage: The tensor in the optimizer's parameter group; its gradient is `storage.grad`.
        offset: Where the range begins in the flattened storage.
    """

    name: str
    start: int
    stop: int
    storage: Tensor
    offset: int = 0

    @property
    def numel(self) -> int:
        return self.stop - self.start

    def weight(self) -> Tensor:
        """`(numel,)`, a view."""
        return self._view(self.storage)

    def gradient(self) -> Tensor | None:
        """`(numel,)`, a view, or None when no gradient arrived."""
        return None if self.storage.grad is None else self._view(self.storage.grad)

    def _view(self, tensor: Tensor) -> Tensor:
        flat = _local(tensor).detach().view(-1)
        return flat.narrow(0, self.offset, self.numel)


def own_fragment(name: str, parameter: Tensor) -> Fragment:
    """What this worker holds of a parameter that is its own storage: all of it, or its rows.

    Raises:
        ValueError: For a distributed tensor that is cut otherwise than by rows.
    """
    if not _is_distributed(parameter):
        return Fragment(name, 0, parameter.numel(), parameter)
    mesh, placement = parameter.device_mesh, parameter.placements[0]
    if mesh.ndim != 1 or not (placement.is_replicate() or placement.is_shard(0)):
        raise ValueError(
            f"parameter {name} is distributed as {parameter.placements} over a mesh of {mesh.ndim} "
            "dimensions: only rows over one dimension, Shard(0), are supported"
        )
    if placement.is_replicate():
        return Fragment(name, 0, parameter.numel(), parameter)
    block = math.ceil(parameter.shape[0] / mesh.size()) * math.prod(parameter.shape[1:])
    start = min(parameter.numel(), mesh.get_local_rank() * block)
    return Fragment(name, start, start + _local(parameter).numel(), parameter)


def agree_on_layout(
    fragments: Sequence[Fragment], *, group: dist.ProcessGroup | None, workers: int
) -> Layout:
    """Every worker's ranges, exchanged. All workers pass their fragments in the same order."""
    device = _local(fragments[0].storage).device
    everyone = [
        gather_integers(values, group=group, workers=workers, device=device)
        for values in ([f.start for f in fragments], [f.stop for f in fragments])
    ]
    by_worker: list[list[Range]] = [
        list(zip(starts, stops, strict=True)) for starts, stops in zip(*everyone, strict=True)
    ]
    return {
        fragment.name: tuple(ranges[i] for ranges in by_worker)
        for i, fragment in enumerate(fragments)
    }


def agree_on_nodes(
    *, group: dist.ProcessGroup | None, workers: int, device: torch.device
) -> tuple[int, ...]:
    """The node of each worker, numbered from 0 in the order of ranks. A collective call.

    Workers are on one node when host name and boot are the same.
    """
    boot = Path("/proc/sys/kernel/random/boot_id")
    name = socket.gethostname() + (boot.read_text() if boot.exists() else "")
    own = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
    found = gather_integers([own], group=group, workers=workers, device=device)
    numbers = {node: number for number, (node,) in enumerate(dict.fromkeys(map(tuple, found)))}
    return tuple(numbers[node] for (node,) in found)


def gather_integers(
    values: Sequence[int], *, group: dist.ProcessGroup | None, workers: int, device: torch.device
) -> list[list[int]]:
    """The values of every worker, by rank. A collective call; all pass equally many."""
    if workers == 1:
        return [list(values)]
    mine = torch.tensor(values, dtype=torch.int64, device=device)
    everyone = [torch.empty_like(mine) for _ in range(workers)]
    dist.all_gather(everyone, mine, group=group)
    return [theirs.tolist() for theirs in everyone]


def require_agreement(
    content: str,
    *,
    rank: int,
    workers: int,
    group: dist.ProcessGroup | None,
    device: torch.device,
) -> None:
    """A collective call.

    Raises:
        ValueError: On every worker, unless all pass the same content.
    """
    if workers == 1:
        return
    digest = hashlib.sha256(content.encode()).digest()
    mine = torch.tensor(list(digest), dtype=torch.uint8, device=device)
    everyone = [torch.empty_like(mine) for _ in range(workers)]
    dist.all_gather(everyone, mine, group=group)
    other = [w for w, theirs in enumerate(everyone) if not torch.equal(theirs, mine)]
    if other:
        raise ValueError(
            f"worker {rank} and workers {other} disagree about the parameters, the optimizer or "
            "who holds what: start all workers with the same study"
        )


def _is_distributed(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether it is a `DTensor`: none is before its module is imported, which takes a second."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def _local(tensor: Tensor) -> Tensor:
    """The part of a (possibly distributed) tensor that is on this worker."""
    return tensor.to_local() if _is_distributed(tensor) else tensor
