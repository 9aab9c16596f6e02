"""Moving pieces of matrices between workers: one all-to-all, planned once and run every step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from optimizers.sharding import EVERYONE, Plan, Range

Write = Callable[["Piece", Tensor], None]
"""Fills the given 1-D tensor with the elements of a piece."""


@dataclass(frozen=True)
class Piece:
    """Elements `[start, stop)` of the flattened matrix `plan.shares[index]`."""

    index: int
    start: int
    stop: int

    @property
    def numel(self) -> int:
        return self.stop - self.start


class Transfer:
    """An all-to-all with fixed pieces: what this worker sends to and receives from each other.

    All workers build their transfers from the same plan, so that the sizes agree and a transfer
    that moves nothing is left out by all of them.

    Args:
        sends: For each worker, the pieces that it gets from here.
        receives: For each worker, the pieces that come from it.
        is_needed: Whether any worker sends anything.
        group: The process group; None for the default one.
    """

    def __init__(
        self,
        *,
        sends: Sequence[Sequence[Piece]],
        receives: Sequence[Sequence[Piece]],
        is_needed: bool,
        group: dist.ProcessGroup | None,
    ) -> None:
        self._sends = [piece for pieces in sends for piece in pieces]
        self._receives = [
            (source, piece) for source, pieces in enumerate(receives) for piece in pieces
        ]
        self._send_sizes = [sum(piece.numel for piece in pieces) for pieces in sends]
        self._receive_sizes = [sum(piece.numel for piece in pieces) for pieces in receives]
        self._is_needed = is_needed
        self._group = group

    @property
    def elements_sent(self) -> int:
        return sum(self._send_sizes)

    def start(self, write: Write, *, dtype: torch.dtype, device: torch.device) -> Pending:
        """Fill the send buffer by `write` and begin the exchange."""
        if not self._is_needed:
            return Pending((), None, None, None)
        outgoing = torch.empty(sum(self._send_sizes), dtype=dtype, device=device)
        incoming = torch.empty(sum(self._receive_sizes), dtype=dtype, device=device)
        for piece, view in _cut(outgoing, self._sends):
            write(piece, view)
        work = dist.all_to_all_single(
            incoming,
            outgoing,
            output_split_sizes=self._receive_sizes,
            input_split_sizes=self._send_sizes,
            group=self._group,
            async_op=True,
        )
        return Pending(self._receives, work, incoming, outgoing)


class Pending:
    """A transfer under way. It keeps both buffers alive until it is waited for."""

    def __init__(
        self,
        receives: Sequence[tuple[int, Piece]],
        work: Any,
        incoming: Tensor | None,
        outgoing: Tensor | None,
    ) -> None:
        self._receives = receives
        self._work = work
        self._incoming = incoming
        self._outgoing = outgoing

    def wait(self) -> Iterator[tuple[int, Piece, Tensor]]:
        """`(source, piece, elements)` of all that arrived, in the order of the sources."""
        if self._work is None or self._incoming is None:
            return
        self._work.wait()
        self._outgoing = None
        pieces = [piece for _, piece in self._receives]
        for (source, piece), (_, view) in zip(
            self._receives, _cut(self._incoming, pieces), strict=True
        ):
            yield source, piece, view


@dataclass(frozen=True)
class WaveTransfers:
    """The transfers of one wave: momentum to the owners, results back."""

    to_owners: Transfer
    back: Transfer


def wave_transfers(
    plan: Plan, wave: Sequence[int], *, rank: int, group: dist.ProcessGroup | None
) -> WaveTransfers:
    """The two transfers of a wave for the worker `rank`."""
    momentum = [(i, plan.shares[i].owner, plan.shares[i].momentum) for i in wave]
    weights = [(i, plan.shares[i].owner, plan.shares[i].weights) for i in wave]
    back = ((owner, worker, piece) for worker, owner, piece in _to_owners(weights))
    return WaveTransfers(
        to_owners=plan_transfer(_to_owners(momentum), rank=rank, workers=plan.workers, group=group),
        back=plan_transfer(back, rank=rank, workers=plan.workers, group=group),
    )


def reduce_transfer(
    plan: Plan, wave: Sequence[int], *, rank: int, group: dist.ProcessGroup | None
) -> Transfer:
    """Everyone's whole gradient of each matrix to its owner, who will average them."""
    shares = [(i, plan.shares[i]) for i in wave]
    whole = [(i, s.owner, ((0, s.matrix.numel),) * plan.workers) for i, s in shares]
    return plan_transfer(_to_owners(whole), rank=rank, workers=plan.workers, group=group)


def plan_transfer(
    moves: Iterable[tuple[int, int, Piece]],
    *,
    rank: int,
    workers: int,
    group: dist.ProcessGroup | None,
) -> Transfer:
    """The transfer of all `(source, destination, piece)`, seen from the worker `rank`.

    Every worker must pass the same moves in the same order.
    """
    sends: list[list[Piece]] = [[] for _ in range(workers)]
    receives: list[list[Piece]] = [[] for _ in range(workers)]
    is_needed = False
    for source, destination, piece in moves:
        is_needed = True
        if source == rank:
            sends[destination].append(piece)
        if destination == rank:
            receives[source].append(piece)
    return Transfer(sends=sends, receives=receives, is_needed=is_needed, group=group)


def _to_owners(
    held: Iterable[tuple[int, int, tuple[Range, ...]]],
) -> Iterator[tuple[int, int, Piece]]:
    """`(worker, owner, piece)` for every non-empty range that is not at its owner already."""
    for index, owner, ranges in held:
        for worker, (start, stop) in enumerate(ranges):
            if owner not in (EVERYONE, worker) and start < stop:
                yield worker, owner, Piece(index, start, stop)


def _cut(buffer: Tensor, pieces: Sequence[Piece]) -> Iterator[tuple[Piece, Tensor]]:
    position = 0
    for piece in pieces:
        yield piece, buffer.narrow(0, position, piece.numel)
        position += piece.numel
