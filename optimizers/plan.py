"""Who holds, who computes and who receives each matrix: a plan, made of numbers only.

What a worker holds of a parameter is a contiguous range of its flattened elements. A `Layout` says
so for every parameter and worker. From it the planner gives every matrix an owner, who will see it
whole, and puts matrices of equal shape in buckets. Planning is deterministic: the same layout
gives the same plan, and the same digest, on every worker.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Literal

from optimizers.routing import Matrix

Range = tuple[int, int]
"""`(start, stop)`, in flattened elements."""

Layout = Mapping[str, tuple[Range, ...]]
"""Parameter name -> the range that each worker holds of it."""

EVERYONE = -1
"""Owner of a matrix that every worker computes for itself."""

# About as much as DistributedDataParallel puts in a bucket: enough to fill a link and to batch
# small matrices, and little enough to leave while the backward pass goes on, and for a few to be in
# memory at once.
_BUCKET_ELEMENTS = 2**23

# Local gradients are averaged in float32, whatever travels later.
_GRADIENT_BYTES = 4

Exchange = Literal["none", "reduce_scatter", "all_to_all"]
"""How the matrices of a bucket meet their owners. `none`: every worker has and computes them
all. `reduce_scatter`: every worker has them all and owns as many as every other; results are
gathered. `all_to_all`: fragments, or whole matrices that do not divide among the workers."""


@dataclass(frozen=True)
class Share:
    """How one matrix is shared.

    Args:
        matrix: The matrix.
        owner: The worker that sees it whole and computes its update, or `EVERYONE`.
        flops: The cost that the planner balanced.
        momentum_bytes: Bytes of one element of the momentum on its way to the owner, or of the
            gradient, for an optimizer whose owners keep all state.
        result_bytes: Bytes of one element of the result on its way back.
        momentum: For each worker, the range of the matrix whose momentum it keeps.
        weights: For each worker, the range of the matrix whose weights it keeps.
    """

    matrix: Matrix
    owner: int
    flops: int
    momentum_bytes: int
    result_bytes: int
    momentum: tuple[Range, ...]
    weights: tuple[Range, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every worker holds all of its weights."""
        return _is_whole(self.weights, self.matrix.numel)


@dataclass(frozen=True)
class BucketPlan:
    """Matrices of one shape that are exchanged and computed together.

    Args:
        rows, columns: m and n.
        exchange: How they meet their owners.
        indices: Into the plan's shares, owner by owner, in the order of the model.
    """

    rows: int
    columns: int
    exchange: Exchange
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Traffic:
    """Bytes that a worker sends in a step, by where they go."""

    within_node: int = 0
    between_nodes: int = 0

    @property
    def total(self) -> int:
        return self.within_node + self.between_nodes


@dataclass(frozen=True)
class Plan:
    """The shares of all matrices, and the buckets in which they are worked on.

    Args:
        workers: Number of workers N.
        shares: One for each matrix, in the order of the model.
        buckets: In the order in which the last gradient of each arrives in a backward pass.
        reduces: Whether local gradients of whole matrices are averaged at their owners.
        nodes: The node of each worker.
    """

    workers: int
    shares: tuple[Share, ...]
    buckets: tuple[BucketPlan, ...]
    reduces: bool
    nodes: tuple[int, ...]

    def load(self, worker: int) -> int:
        """Operations of one worker on the matrices that it owns, in one step."""
        return sum(share.flops for share in self.shares if share.owner in (worker, EVERYONE))

    def traffic(self, worker: int) -> Traffic:
        """What one worker sends in one step: gradients or momentum to the owners, results back."""
        within = between = 0
        for destination, sent in self._sent_by(worker):
            if self.nodes[destination] == self.nodes[worker]:
                within += sent
            else:
                between += sent
        return Traffic(within, between)

    def _sent_by(self, worker: int) -> Iterator[tuple[int, int]]:
        """`(destination, bytes)`."""
        for share in self.shares:
            if share.owner == worker:
                for other, held in enumerate(share.weights):
                    if other != worker:
                        yield other, share.result_bytes * _length(held)
            elif share.owner != EVERYONE and self.reduces and share.is_whole:
                yield share.owner, _GRADIENT_BYTES * share.matrix.numel
            elif share.owner != EVERYONE:
                yield share.owner, share.momentum_bytes * _length(share.momentum[worker])

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
                total += travels * (share.result_bytes + _GRADIENT_BYTES * self.reduces)
            else:
                total += travels * (share.result_bytes + share.momentum_bytes) / self.workers
        return total

    @property
    def digest(self) -> str:
        """SHA-256 of the plan: equal on all workers, or something is badly wrong."""
        return hashlib.sha256(json.dumps(astuple(self)).encode()).hexdigest()


def make_plan(
    matrices: Sequence[Matrix],
    *,
    layout: Layout,
    workers: int,
    cost: Callable[[Matrix], int],
    travel_bytes: Callable[[Matrix], tuple[int, int]],
    share_whole: bool,
    reduces: bool,
    nodes: Sequence[int] | None = None,
) -> Plan:
    """Plan one optimizer step.

    Args:
        matrices: In the order of the model.
        layout: What each worker holds of each parameter.
        workers: N.
        cost: Operations on a matrix.
        travel_bytes: Bytes of one element of the momentum and of the result, as they travel.
        share_whole: Whether matrices that every worker holds whole are shared out too, or
            computed by everyone.
        reduces: Whether the owners of whole matrices average local gradients.
        nodes: The node of each worker; by default there is one.

    Raises:
        ValueError: When the ranges of a parameter neither cover it once nor are all of it.
    """
    held = [_held(matrix, layout, workers=workers) for matrix in matrices]
    whole = [_is_whole(r, m.numel) for m, r in zip(matrices, held, strict=True)]
    costs = [cost(matrix) for matrix in matrices]
    shared = [i for i in range(len(matrices)) if (share_whole or not whole[i]) and workers > 1]
    dealt = _deal([i for i in shared if whole[i]], matrices, workers=workers)
    rest = [i for i in shared if i not in dealt]
    assigned = _assign_owners(
        [costs[i] for i in rest],
        holders=[None if whole[i] else held[i] for i in rest],
        workers=workers,
    )
    owner_of = {**dealt, **dict(zip(rest, assigned, strict=True))}
    shares = []
    for index, (matrix, ranges) in enumerate(zip(matrices, held, strict=True)):
        owner = owner_of.get(index, EVERYONE)
        momentum = ranges
        if owner != EVERYONE and whole[index]:
            momentum = tuple((0, matrix.numel if w == owner else 0) for w in range(workers))
        shares.append(Share(matrix, owner, costs[index], *travel_bytes(matrix), momentum, ranges))
    exchange = {i: _exchange_of(i, owner_of, dealt) for i in range(len(matrices))}
    return Plan(
        workers=workers,
        shares=tuple(shares),
        buckets=_buckets(shares, exchange, workers=workers),
        reduces=reduces,
        nodes=tuple(nodes) if nodes is not None else (0,) * workers,
    )


def _exchange_of(index: int, owner_of: Mapping[int, int], dealt: Mapping[int, int]) -> Exchange:
    if index not in owner_of:
        return "none"
    return "reduce_scatter" if index in dealt else "all_to_all"


def _kind(matrix: Matrix) -> tuple[int, int, bool]:
    """Matrices of one kind have the same shape and the same scale."""
    return matrix.rows, matrix.columns, matrix.input_first


def _deal(indices: Sequence[int], matrices: Sequence[Matrix], *, workers: int) -> dict[int, int]:
    """Owners of whole matrices of which every worker gets equally many of each kind.

    What does not divide among the workers is left for `_assign_owners`.
    """
    by_kind: dict[tuple[int, int, bool], list[int]] = defaultdict(list)
    for index in indices:
        by_kind[_kind(matrices[index])].append(index)
    owners: dict[int, int] = {}
    for group in by_kind.values():
        # By turns, so that the matrices of one layer are at all of them.
        even = len(group) - len(group) % workers
        owners.update({index: turn % workers for turn, index in enumerate(group[:even])})
    return owners


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


def _buckets(
    shares: Sequence[Share], exchange: Mapping[int, Exchange], *, workers: int
) -> tuple[BucketPlan, ...]:
    """Equal kinds together, from the end of the model on, where gradients arrive first."""
    by_kind: dict[tuple[tuple[int, int, bool], Exchange], list[int]] = defaultdict(list)
    for index in reversed(range(len(shares))):
        by_kind[_kind(shares[index].matrix), exchange[index]].append(index)
    buckets = []
    for ((rows, columns, _), how), group in by_kind.items():
        size = max(1, _BUCKET_ELEMENTS // (rows * columns))
        if how == "reduce_scatter":  # dealt by turns: any `workers` neighbours have all owners
            size = max(workers, size - size % workers)
        for begin in range(0, len(group), size):
            ordered = sorted(group[begin : begin + size], key=lambda i: (shares[i].owner, i))
            buckets.append(BucketPlan(rows, columns, how, tuple(ordered)))
    return tuple(sorted(buckets, key=lambda bucket: -min(bucket.indices)))


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
