"""Weights and state by name: kept in pieces, gathered into the logical tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from optimizers.plan import Range

NamedState = dict[str, dict[str, dict[Range, Tensor]]]
"""Parameter name -> key, such as `momentum` -> range of the flattened parameter -> its elements."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Elements `[start, stop)` of a flattened parameter (`key` None) or of one state of it."""

    name: str
    key: str | None
    start: int
    stop: int
    elements: Tensor


Label = tuple[str, str | None]


def share_writing(
    tensors: Mapping[Label, Sequence[Sequence[Range]]], *, workers: int
) -> dict[Label, list[list[Range]]]:
    """Who writes which ranges, so that every element is written once.

    Args:
        tensors: For each tensor and worker the ranges that it keeps: all of them everywhere, or
            each element once.
        workers: How many there are.

    Returns:
        The same, but what all keep is one worker's: the largest first, to whoever has least.
    """
    answers, loads = {}, [0] * workers
    shared = [label for label, held in tensors.items() if all(h == held[0] for h in held[1:])]
    for label, held in tensors.items():
        answers[label] = [[] if label in shared else list(ranges) for ranges in held]
        for worker, ranges in enumerate(answers[label]):
            loads[worker] += _length(ranges)
    for label in sorted(shared, key=lambda label: -_length(tensors[label][0])):
        writer = loads.index(min(loads))
        answers[label][writer] = list(tensors[label][0])
        loads[writer] += _length(tensors[label][0])
    return answers


def _length(ranges: Sequence[Range]) -> int:
    return sum(stop - start for start, stop in ranges)


def gather_pieces(
    pieces: Mapping[Range, Tensor],
    *,
    ranges: Sequence[Sequence[Range]],
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
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
        dtype, device: Of the result, the same on all workers.
        rank: This worker.
        group: The workers.
        to: The only worker that needs the result; None for all.

    Returns:
        A tensor of `shape`; on a worker that does not need it, an empty one.
    """
    is_destination = to in (None, rank)
    whole = torch.zeros(math.prod(shape) if is_destination else 0, dtype=dtype, device=device)
    own = torch.cat([pieces[held] for held in sorted(pieces)] or [whole[:0]])
    if all(list(held) == list(ranges[0]) for held in ranges):
        _place(own, ranges[rank], whole)
        return whole.view(shape) if is_destination else whole
    sizes = [sum(stop - start for start, stop in held) for held in ranges]
    destinations = [worker for worker in range(len(ranges)) if to in (None, worker)]
    arrived = torch.empty(sum(sizes) if is_destination else 0, dtype=dtype, device=device)
    dist.all_to_all_single(
        arrived,
        own.repeat(len(destinations)),
        output_split_sizes=sizes if is_destination else [0] * len(ranges),
        input_split_sizes=[sizes[rank] * (w in destinations) for w in range(len(ranges))],
        group=group,
    )
    if not is_destination:
        return whole
    for held, part in zip(ranges, torch.split(arrived, sizes), strict=True):
        _place(part, held, whole)
    return whole.view(shape)


def _place(elements: Tensor, ranges: Sequence[Range], whole: Tensor) -> None:
    """Elements in the ascending order of their ranges to where they belong."""
    position = 0
    for start, stop in sorted(ranges) if whole.numel() else ():
        whole[start:stop] = elements[position : position + stop - start]
        position += stop - start


def check_state(
    state: Mapping[str, Mapping[str, Tensor]],
    *,
    keys: Mapping[str, tuple[str, ...]],
    shapes: Mapping[str, tuple[int, ...]],
    whole_keys: tuple[str, ...] = (),
) -> None:
    """Compare a loaded state with what the model and its optimizer need.

    Raises:
        ValueError: When names, keys or shapes differ.
    """
    for name, entry in state.items():
        if name not in shapes:
            raise ValueError(f"the optimizer state names {name}, which this model does not have")
        needed = {*keys[name], *whole_keys}
        if set(entry) != {*needed, "step"}:
            raise ValueError(
                f"the optimizer state of {name} has {sorted(entry)} and needs {sorted(needed)} "
                "and step: it was saved by another optimizer"
            )
        for key in keys[name]:
            if tuple(entry[key].shape) != shapes[name]:
                raise ValueError(
                    f"the state {key} of {name} has shape {tuple(entry[key].shape)}, the parameter "
                    f"{shapes[name]}: load a checkpoint of the same model"
                )
