"""A step on the sphere: a matrix keeps its Frobenius norm, and the learning rate is an angle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from optimizers.buckets import Bucket

_SMALLEST = 1e-10


def step_on_sphere(
    bucket: Bucket, weights: Sequence[Tensor], updates: Sequence[Tensor], *, rate: float
) -> None:
    """`W <- R N / |N|` with `N = W - rate R U / |U|` and `R = |W|`, for each matrix, in place.

    A matrix of zeros stays one. Collective calls where workers hold parts of matrices: the norms
    are those of whole matrices.

    Source: Wen et al. 2025, "Hyperball optimization", part 2.1 of "Fantastic pretraining
    optimizers and where to find them"; the form is that of NVIDIA Emerging-Optimizers. It takes R
    from the weights before each step, which differs from the initial norm by rounding only.

    Args:
        bucket: Of the matrices.
        weights: What this worker holds, flat views.
        updates: U, of the same sizes.
        rate: The step relative to the norm.
    """
    held, device = bucket.held(), bucket.gang.device
    weight = list(by_matrix(weights, held, device=device))
    update = [part.float() for part in by_matrix(updates, held, device=device)]
    radius, size = bucket.total(torch.stack([squares(weight), squares(update)])).sqrt()
    steps = (rate * radius / size.clamp_min(_SMALLEST)).unbind()
    for part, direction, step in zip(weight, update, steps, strict=True):
        part.sub_(direction * step)
    moved = bucket.total(squares(weight)).sqrt()
    for part, factor in zip(weight, (radius / moved.clamp_min(_SMALLEST)).unbind(), strict=True):
        part.mul_(factor)


def squares(parts: Sequence[Tensor]) -> Tensor:
    """`(K,)`, the sum of squares of each, float32."""
    return torch.stack([part.float().square().sum() for part in parts])


def by_matrix(
    tensors: Sequence[Tensor], sizes: Sequence[int], *, device: torch.device
) -> Iterator[Tensor]:
    """Views of flat tensors, cut into pieces of these sizes, none of which lies in two.

    Empty pieces are on the device too, where the sums over all pieces are put together.
    """
    rest = iter(tensors)
    current, position = torch.empty(0, device=device), 0
    for size in sizes:
        if size and position == current.numel():
            current, position = next(rest), 0
        yield current.narrow(0, position, size) if size else current[:0]
        position += size
