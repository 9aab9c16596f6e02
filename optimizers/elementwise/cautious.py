"""The cautious mask: no element moves against its gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from optimizers.elementwise.base import Tensors

# The least mean of a mask, so the largest factor is a thousand: the authors' c_adamw.py.
_SMALLEST_SHARE = 1e-3


def mask_directions(directions: list[Tensor], tensors: Tensors) -> None:
    """`U <- U * mask / max(mean(mask), 1e-3)` with `mask = (U G > 0)`, in place.

    The mean is over the whole parameter, wherever its elements lie: a collective call where weights
    are sharded. Counts are summed in double precision, so the factor does not depend on how. Of a
    stack of experts the mean is over all of them, those without a gradient too.

    Source: Liang et al. 2024, arXiv 2411.16085, algorithm 1. The factor is that of the authors'
    code today; the paper has `d / (nonzeros + 1)`, which no constant bounds.

    Args:
        directions: What is subtracted from the weights, times a rate; as `tensors.gradients`.
        tensors: The gradients, the sizes of the whole parameters and the sum over the workers.
    """
    agreement = torch._foreach_mul(directions, tensors.gradients)
    masks = [product > 0 for product in agreement]
    kept = tensors.totals(torch.stack([mask.sum() for mask in masks]).double())
    numels = torch.tensor(tensors.numels, dtype=torch.float64)
    numels = numels.to(kept.device, non_blocking=True)  # a GPU is not waited for
    factors = 1.0 / (kept / numels).clamp(min=_SMALLEST_SHARE)
    for direction, mask, factor in zip(directions, masks, factors.unbind(), strict=True):
        direction.mul_(mask).mul_(factor)
