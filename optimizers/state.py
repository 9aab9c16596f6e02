"""Weights and state by name: kept in pieces, gathered into the logical tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from optimizers.exchange import Piece, plan_transfer
from optimizers.sharding import Range

NamedState = dict[str, dict[str, dict[Range, Tensor]]]
"""Parameter name -> key, such as `momentum` -> range of the flattened parameter -> its elements."""


def gather_pieces(
    pieces: Mapping[Range, Tensor],
    *,
    ranges: Sequence[Sequence[Range]],
    shape: tuple[int, ...],
    like: Tensor,
    rank: int,
    group: dist.ProcessGroup | None,
    to: int | None,
) -> Tensor:
    """A whole tensor from the workers' pieces. A collective call unless everyone has all of it.

    Args:
        pieces: What this worker keeps.
        ranges: For each worker, the ranges that it keeps: all of it everywhere, or each element
            once.
        shape: Logical shape of the parameter.
        like: For dtype and device.
        rank: This worker.
        group: The workers.
        to: The only worker that needs the result; None for all.

    Returns:
        A tensor of `shape`; on a worker that does not need it, an empty one.
    """
    workers = len(ranges)
    is_destination = to in (None, rank)
    whole = torch.zeros(
        math.prod(shape) if is_destination else 0, dtype=like.dtype, device=like.device
    )
    if is_destination:
        for (start, stop), piece in pieces.items():
            whole[start:stop] = piece
    if any(list(held) != list(ranges[0]) for held in ranges):
        destinations = range(workers) if to is None else (to,)
        transfer = plan_transfer(
            (
                (source, destination, Piece(0, start, stop))
                for source, held in enumerate(ranges)
                for start, stop in held
                for destination in destinations
                if destination != source
            ),
            rank=rank,
            workers=workers,
            group=group,
        )

        def write(piece: Piece, out: Tensor) -> None:
            kept = pieces.get((piece.start, piece.stop))
            out.zero_() if kept is None else out.copy_(kept)

        pending = transfer.start(write, dtype=like.dtype, device=like.device)
        for _, arrived, elements in pending.wait():
            whole[arrived.start : arrived.stop] = elements
    return whole.view(shape) if is_destination else whole


def check_state(
    state: Mapping[str, Mapping[str, Tensor]],
    *,
    keys: Mapping[str, tuple[str, ...]],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    """Compare a loaded state with what the model and its optimizer need.

    Raises:
        ValueError: When names, keys or shapes differ.
    """
    for name, entry in state.items():
        if name not in shapes:
            raise ValueError(f"the optimizer state names {name}, which this model does not have")
        if set(entry) != {*keys[name], "step"}:
            raise ValueError(
                f"the optimizer state of {name} has {sorted(entry)} and needs {sorted(keys[name])} "
                "and step: it was saved by another optimizer"
            )
        for key in keys[name]:
            if tuple(entry[key].shape) != shapes[name]:
                raise ValueError(
                    f"the state {key} of {name} has shape {tuple(entry[key].shape)}, the parameter "
                    f"{shapes[name]}: load a checkpoint of the same model"
                )
