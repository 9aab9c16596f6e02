"""Who holds, who orthogonalises and who receives each matrix: a plan, made of numbers only.

What a worker holds of a parameter is a contiguous range of its flattened elements. A `Layout` says
so for every parameter and worker. From it the planner gives every matrix an owner, who will see it
whole, and orders the matrices in waves of equal shape. Planning is deterministic: the same layout
gives the same plan, and the same digest, on every worker.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass

from optimizers.routing import Matrix

Range = tuple[int, int]
"""`(start, stop)`, in flattened elements."""

Layout = Mapping[str, tuple[Range, ...]]
"""Parameter name -> the range that each worker holds of it."""

EVERYONE = -1
"""Owner of a matrix that every worker orthogonalises for itself."""

# One wave is exchanged while another is computed. 64M elements are 256 MB in float32, long enough
# to fill any link and small enough for a few of them to be in memory at once.
_WAVE_ELEMENTS = 2**26


# Momentum and gradients travel in float32, whatever the result's dtype.
_MOMENTUM_BYTES = 4


@dataclass(frozen=True)
class Share:
    """How one matrix is shared.

    Args:
        matrix: The matrix.
        owner: The worker that orthogonalises it, or `EVERYONE`.
        flops: The cost that the planner balanced.
        result_bytes: Bytes of one element of the orthogonalised matrix.
        momentum: For each worker, the range of the matrix whose momentum it keeps.
        weights: For each worker, the range of the matrix whose weights it keeps.
    """

    matrix: Matrix
    owner: int
    flops: int
    result_bytes: int
    momentum: tuple[Range, ...]
    weights: tuple[Range, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every worker holds all of its weights."""
        return _is_whole(self.weights, self.matrix.numel)


@dataclass(frozen=True)
class Plan:
    """The shares of all matrices, and the order in which they are worked on.

    Args:
        workers: Number of workers N.
        shares: One for each matrix, in the order of the model.
        waves: Indices into `shares`; all matrices of a wave have the same shape.
        reduces: Whether local gradients of whole matrices are averaged at their owners.
    """

    workers: int
    shares: tuple[Share, ...]
    waves: tuple[tuple[int, ...], ...]
    reduces: bool

    def load(self, worker: int) -> int:
        """Newton-Schulz operations of one worker in one step."""
        return sum(share.flops for share in self.shares if share.owner in (worker, EVERYONE))

    def bytes_sent(self, worker: int) -> int:
        """What one worker sends in one step: gradients or momentum to the owners, results back."""
        total = 0
        for share in self.shares:
            if share.owner == worker:
                others = (held for w, held in enumerate(share.weights) if w != worker)
                total += share.result_bytes * sum(_length(held) for held in others)
            elif share.owner != EVERYONE:
                reduced = self.reduces and share.is_whole
                sent = share.matrix.numel if reduced else _length(share.momentum[worker])
                total += _MOMENTUM_BYTES * sent
        return total

    def bytes_floor(self) -> float:
        """The least that a worker can send on average.

        Of a matrix of which each worker holds a part `1/N`, all but the owner's part travels once
        in each direction: `(N-1)/N^2` of it a worker. Of one whose weights all workers hold, the
        result goes to the others, `(N-1)/N`, and as much for a reduced gradient.
        """
        total = 0.0
        for share in self.shares:
            if share.owner == EVERYONE:
                continue
            travels = share.matrix.numel * (self.workers - 1) / self.workers
            if share.is_whole:
                total += travels * (share.result_bytes + _MOMENTUM_BYTES * self.reduces)
            else:
                total += travels * (share.result_bytes + _MOMENTUM_BYTES) / self.workers
        return total

    @property
    def digest(self) -> str:
        """SHA-256 of the plan: equal on all workers, or something is badly wrong."""
        content = [
            self.workers,
            self.reduces,
            self.waves,
            [
                (*astuple(s.matrix), s.owner, s.flops, s.result_bytes, s.momentum, s.weights)
                for s in self.shares
            ],
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def make_plan(
    matrices: Sequence[Matrix],
    *,
    layout: Layout,
    workers: int,
    cost: Callable[[Matrix], int],
    result_bytes: Callable[[Matrix], int],
    share_whole: bool,
    reduces: bool,
) -> Plan:
    """Plan one optimizer step.

    Args:
        matrices: In the order of the model.
        layout: What each worker holds of each parameter.
        workers: N.
        cost: Operations to orthogonalise a matrix.
        result_bytes: Bytes of one element of the orthogonalised matrix.
        share_whole: Whether matrices that every worker holds whole are shared out too, or
            orthogonalised by everyone.
        reduces: Whether the owners of whole matrices average local gradients.

    Raises:
        ValueError: When the ranges of a parameter neither cover it once nor are all of it.
    """
    held = [_held(matrix, layout, workers=workers) for matrix in matrices]
    whole = [_is_whole(r, m.numel) for m, r in zip(matrices, held, strict=True)]
    costs = [cost(matrix) for matrix in matrices]
    shared = [i for i in range(len(matrices)) if share_whole or not whole[i]]
    if workers == 1:
        shared = []
    owners = _assign_owners(
        [costs[i] for i in shared],
        holders=[None if whole[i] else held[i] for i in shared],
        workers=workers,
    )
    owner_of = dict(zip(shared, owners, strict=True))
    shares = []
    for index, (matrix, ranges) in enumerate(zip(matrices, held, strict=True)):
        owner = owner_of.get(index, EVERYONE)
        momentum = ranges
        if owner != EVERYONE and whole[index]:
            momentum = tuple((0, matrix.numel if w == owner else 0) for w in range(workers))
        shares.append(Share(matrix, owner, costs[index], result_bytes(matrix), momentum, ranges))
    return Plan(workers, tuple(shares), _waves(shares), reduces)


def _assign_owners(
    costs: Sequence[int], *, holders: Sequence[tuple[Range, ...] | None], workers: int
) -> list[int]:
    """Longest processing time first, after matrices that need not travel have stayed at home.

    A matrix that one worker holds entirely stays there as long as that worker is not pushed above
    the mean load. Every other matrix, largest first, goes to the least loaded worker. The loads
    then differ by at most the largest cost: the last matrix given to the fullest worker either came
    when it was the least loaded one, or left it at or below the mean, and then so are all others.
    """
    loads = [0] * workers
    owners = [-1] * len(costs)
    mean = sum(costs) / workers
    order = sorted(range(len(costs)), key=lambda i: (-costs[i], i))
    for i in order:
        ranges = holders[i]
        home = _only_holder(ranges) if ranges is not None else None
        if home is not None and loads[home] + costs[i] <= mean:
            owners[i] = home
            loads[home] += costs[i]
    for i in order:
        if owners[i] == -1:
            ranges = holders[i]
            part = [0 if ranges is None else _length(ranges[w]) for w in range(workers)]
            owners[i] = min(range(workers), key=lambda w: (loads[w], -part[w], w))
            loads[owners[i]] += costs[i]
    return owners


def _only_holder(ranges: tuple[Range, ...]) -> int | None:
    holders = [worker for worker, held in enumerate(ranges) if _length(held)]
    return holders[0] if len(holders) == 1 else None


def _waves(shares: Sequence[Share]) -> tuple[tuple[int, ...], ...]:
    """Equal shapes together, the costliest first; a large group in waves even over the owners."""
    by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, share in enumerate(shares):
        by_shape[share.matrix.rows, share.matrix.columns].append(index)
    waves = []
    for group in sorted(by_shape.values(), key=lambda g: (-sum(shares[i].flops for i in g), g)):
        turn: dict[int, int] = defaultdict(int)
        turns = []
        for index in group:
            owner = shares[index].owner
            turns.append((turn[owner], owner, index))
            turn[owner] += 1
        ordered = [index for _, _, index in sorted(turns)]
        step = max(1, _WAVE_ELEMENTS // shares[group[0]].matrix.numel)
        waves += [tuple(ordered[k : k + step]) for k in range(0, len(ordered), step)]
    return tuple(waves)


def _held(matrix: Matrix, layout: Layout, *, workers: int) -> tuple[Range, ...]:
    """What each worker holds of the matrix, in its own flattened elements."""
    ranges = layout[matrix.parameter]
    if len(ranges) != workers:
        raise ValueError(
            f"the layout gives {len(ranges)} ranges of {matrix.parameter} for {workers} workers"
        )
    stop = matrix.offset + matrix.numel
    clipped = tuple(
        (max(a, matrix.offset) - matrix.offset, min(b, stop) - matrix.offset)
        if max(a, matrix.offset) < min(b, stop)
        else (0, 0)
        for a, b in ranges
    )
    _require_once_or_whole(matrix, clipped)
    return clipped


def _require_once_or_whole(matrix: Matrix, ranges: tuple[Range, ...]) -> None:
    if _is_whole(ranges, matrix.numel):
        return
    position = 0
    for start, stop in sorted(held for held in ranges if _length(held)):
        if start != position:
            break
        position = stop
    if position != matrix.numel:
        raise ValueError(
            f"the workers hold {ranges} of matrix {matrix.index} of {matrix.parameter} "
            f"({matrix.numel} elements): together they must hold each element once, or all of them "
            "everything"
        )


def _is_whole(ranges: tuple[Range, ...], numel: int) -> bool:
    return all(held == (0, numel) for held in ranges)


def _length(held: Range) -> int:
    return held[1] - held[0]
