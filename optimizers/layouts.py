"""The layouts that the usual backends use, in closed form.

The optimizer learns the real layout from the fragments that it is given. These serve a report that
asks what a run *would* do, and tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from optimizers.plan import Layout

NamedShapes = Sequence[tuple[str, tuple[int, ...]]]


def whole_layout(named_shapes: NamedShapes, *, workers: int) -> Layout:
    """Everyone holds everything: one process, data parallelism, ZeRO 0."""
    return {name: ((0, math.prod(shape)),) * workers for name, shape in named_shapes}


def row_layout(named_shapes: NamedShapes, *, workers: int) -> Layout:
    """Blocks of `ceil(rows / N)` of the first dimension: FSDP2's `Shard(0)`, `torch.chunk`."""
    layout = {}
    for name, shape in named_shapes:
        rows = shape[0] if shape else 1
        block, size = math.ceil(rows / workers), math.prod(shape[1:])
        layout[name] = tuple(
            (min(rows, w * block) * size, min(rows, (w + 1) * block) * size) for w in range(workers)
        )
    return layout


def slice_layout(named_shapes: NamedShapes, *, workers: int) -> Layout:
    """A slice of `ceil(numel / N)` of every parameter: ZeRO 3."""
    layout = {}
    for name, shape in named_shapes:
        numel = math.prod(shape)
        part = math.ceil(numel / workers)
        layout[name] = tuple(
            (min(numel, w * part), min(numel, (w + 1) * part)) for w in range(workers)
        )
    return layout


def flat_layout(named_shapes: NamedShapes, *, workers: int) -> Layout:
    """All parameters end to end, cut into N equal parts: ZeRO 1 and 2, for one group."""
    part = math.ceil(sum(math.prod(shape) for _, shape in named_shapes) / workers)
    layout, begin = {}, 0
    for name, shape in named_shapes:
        numel = math.prod(shape)
        cuts = [min(numel, max(0, w * part - begin)) for w in range(workers + 1)]
        layout[name] = tuple(zip(cuts[:-1], [*cuts[1:-1], numel], strict=True))
        begin += numel
    return layout
