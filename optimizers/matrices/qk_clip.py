"""QK-clip: heads whose attention logits grow too large get smaller queries and keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from optimizers.fragments import Fragment

Measured = Mapping[str, Callable[[], Tensor]]
"""Name of a fused weight -> takes the `(H,)` largest logits of its heads since the last time."""


def clip_queries_and_keys(
    fragments: Sequence[Fragment],
    shapes: Sequence[tuple[int, ...]],
    measured: Measured,
    *,
    bound: float,
    workers: int,
) -> None:
    """`W_q, W_k <- sqrt(min(1, bound / S)) W_q, W_k` for each head with its largest logit S.

    In place, on whatever part of the fused weights (queries, keys, values, each by head) is here.
    A collective call: S is the largest of all workers.

    Source: Kimi Team 2025, arXiv 2507.20534, algorithm 1, with its alpha of 1/2.

    Args:
        fragments: Of weights that are measured, the same on all workers, empty ones included.
        shapes: Their logical shapes, `(3 D, D)`.
        measured: What measured them.
        bound: The paper's tau.
        workers: Of the trial, whatever group shares matrices.
    """
    if not fragments:
        return
    largest = [measured[fragment.name]().to(fragment.weight().device) for fragment in fragments]
    together = torch.cat(largest)
    if workers > 1:
        dist.all_reduce(together, op=dist.ReduceOp.MAX)
    factors = (bound / together.clamp_min(bound)).sqrt()
    heads = torch.split(factors, [one.numel() for one in largest])
    for fragment, shape, factor in zip(fragments, shapes, heads, strict=True):
        rows, columns = shape
        by_row = factor.repeat_interleave(rows // 3 // factor.numel())
        by_row = torch.cat([by_row, by_row, torch.ones_like(by_row)])
        elements = torch.arange(fragment.start, fragment.stop, device=by_row.device)
        fragment.weight().mul_(by_row[elements // columns])
