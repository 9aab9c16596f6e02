"""What both kinds of bucket have: which matrices, who owns them, where their elements lie."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from optimizers.fragments import Fragment
from optimizers.plan import EVERYONE, BucketPlan, Plan, Range

Arrives = Callable[[], Tensor]
"""Waits for a collective and returns what it brought."""


@dataclass(frozen=True)
class Run:
    """Elements `[start, stop)` of a flattened parameter, at `[position, ...)` of a flat buffer."""

    parameter: str
    start: int
    stop: int
    position: int

    @property
    def numel(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Gang:
    """The workers of a bucket, and how this one computes."""

    rank: int
    workers: int
    group: dist.ProcessGroup | None
    device: torch.device
    by_all_to_all: bool
    """Whether whole matrices, too, move by all-to-all and are added in the order of ranks, instead
    of by reduce-scatter and all-gather: slower on a GPU's links, the same bits on any."""


class Bucket(ABC):
    """What both kinds have.

    Args:
        plan: All shares.
        bucket: Which of them are here.
        fragments: What this worker holds, by parameter.
        gang: The workers.
    """

    def __init__(
        self, plan: Plan, bucket: BucketPlan, fragments: Mapping[str, Fragment], gang: Gang
    ) -> None:
        self.plan, self.bucket, self.gang = plan, bucket, gang
        self.shape = (bucket.rows, bucket.columns)
        self.shares = [plan.shares[index] for index in bucket.indices]
        self.fan_out_in = self.shares[0].matrix.fan_out_in
        self.input_first = self.shares[0].matrix.input_first
        self.parameters = tuple(dict.fromkeys(share.matrix.parameter for share in self.shares))
        self.fragments = {name: fragments[name] for name in self.parameters}
        self.mine = [i for i, s in enumerate(self.shares) if s.owner in (gang.rank, EVERYONE)]
        self.numel = bucket.rows * bucket.columns
        self.owner_shapes: Mapping[str, tuple[int, ...]] = {}
        self._owner_state: dict[str, Tensor] = {}

    def owner_state(self, key: str) -> Tensor:
        """State of the matrices owned here: `(k, *owner_shapes[key])`, float32, zero at first."""
        if key not in self._owner_state:
            shape = (len(self.mine), *self.owner_shapes[key])
            self._owner_state[key] = torch.zeros(
                shape, dtype=torch.float32, device=self.gang.device
            )
        return self._owner_state[key]

    @cached_property
    @abstractmethod
    def momentum(self) -> Tensor:
        """What this worker keeps of the momentum, float32, zero at first."""

    @abstractmethod
    def momentum_runs(self) -> list[Run]:
        """Where the elements of `momentum` lie in their parameters."""

    @abstractmethod
    def start_reduce(self) -> None:
        """Begin to average local gradients; nothing where they are averaged already."""

    @abstractmethod
    def finish_reduce(self) -> None:
        """Wait for it."""

    @abstractmethod
    def gradient(self) -> Tensor:
        """The averaged raw gradient of what this worker keeps, float32, shaped as `momentum`."""

    @abstractmethod
    def assemble(self, update: Tensor) -> Arrives:
        """`update`, shaped as `momentum` -> the `(k, m, n)` matrices that this worker owns."""

    @abstractmethod
    def give_back(self, result: Tensor) -> Arrives:
        """`(k, m, n)` -> the elements of all that this worker holds, flat."""

    @abstractmethod
    def weights(self) -> list[Tensor]:
        """Views of the weights, in the order and with the sizes of what `give_back` brings."""

    @abstractmethod
    def held(self) -> list[int]:
        """Of each matrix, in the order of `shares`, how many elements are held here."""

    def total(self, partial: Tensor) -> Tensor:
        """Sums over whole matrices from sums over what is held here, `(K, ...)`.

        A collective call where workers hold parts of matrices.
        """
        return partial

    @abstractmethod
    def is_starved(self, gradient: Tensor) -> Tensor:
        """For each matrix owned here, whether its whole gradient is zero: `(k, 1, 1)` bool."""

    @abstractmethod
    def forget(self) -> None:
        """Drop the gradient of this step."""

    def _stacked(self, indices: Sequence[int]) -> list[Run]:
        """Whole matrices one after the other, neighbours of one parameter in one run."""
        matrices = [self.shares[i].matrix for i in indices]
        return merged((m.parameter, m.offset, m.offset + m.numel) for m in matrices)

    def _read(self, runs: Sequence[Run], out: Tensor) -> None:
        """Copy gradients to a flat tensor; a missing one is zero."""
        targets, sources = [], []
        for run, target in zip(runs, torch.split(out, [run.numel for run in runs]), strict=True):
            fragment = self.fragments[run.parameter]
            gradient = fragment.gradient()
            if gradient is None:
                target.zero_()
            else:
                targets.append(target)
                sources.append(gradient.narrow(0, run.start - fragment.start, run.numel))
        if targets:
            torch._foreach_copy_(targets, sources)

    def _weights(self, runs: Sequence[Run]) -> list[Tensor]:
        views = {name: fragment.weight() for name, fragment in self.fragments.items()}
        begins = {name: fragment.start for name, fragment in self.fragments.items()}
        return [
            views[run.parameter].narrow(0, run.start - begins[run.parameter], run.numel)
            for run in runs
        ]

    def _empty(self, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(count, dtype=dtype, device=self.gang.device)


def merged(pieces: Iterable[tuple[str, int, int]]) -> list[Run]:
    """Pieces `(parameter, start, stop)`, laid one after the other; neighbours become one run."""
    runs: list[Run] = []
    position = 0
    for parameter, start, stop in pieces:
        if start == stop:
            continue
        if runs and (runs[-1].parameter, runs[-1].stop) == (parameter, start):
            runs[-1] = Run(parameter, runs[-1].start, stop, runs[-1].position)
        else:
            runs.append(Run(parameter, start, stop, position))
        position += stop - start
    return runs


def after(work: Any, result: Callable[[], Tensor], *, keep: Tensor) -> Arrives:
    """Waits for a collective; `keep` is what it reads, alive until then."""
    reading: list[Tensor] = [keep]

    def wait() -> Tensor:
        work.wait()
        reading.clear()
        return result()

    return wait


def length(held: Range) -> int:
    return held[1] - held[0]
