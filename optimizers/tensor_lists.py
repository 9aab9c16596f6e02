"""What is computed element by element, or summed over elements, on lists of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw


def adamw_update(
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    *,
    updates: Sequence[int],
    options: Mapping[str, Any],
) -> None:
    """One AdamW update in place, by torch's own fused functional form.

    Args:
        weights, exp_avgs, exp_avg_sqs: Of equal shapes, one after the other.
        gradients: None counts as zero.
        updates: For each weight, the number of this update, from 1.
        options: `lr`, `beta1`, `beta2`, `epsilon`, `weight_decay`.
    """
    # The functional form counts the update itself. A GPU is not waited for.
    done = torch.tensor([float(n - 1) for n in updates])
    done = done.to(weights[0].device, non_blocking=True)
    adamw(
        list(weights),
        [
            torch.zeros_like(weight) if gradient is None else gradient
            for weight, gradient in zip(weights, gradients, strict=True)
        ],
        list(exp_avgs),
        list(exp_avg_sqs),
        [],
        list(done.unbind()),
        fused=True,
        amsgrad=False,
        maximize=False,
        beta1=options["beta1"],
        beta2=options["beta2"],
        lr=options["lr"],
        weight_decay=options["weight_decay"],
        eps=options["epsilon"],
    )


def not_finite(tensors: Sequence[Tensor], *, device: torch.device) -> Tensor:
    """1 where any element is infinite or not a number, else 0: a float32 scalar.

    One pass: the largest magnitude is finite where all elements are.
    """
    if not tensors:
        return torch.zeros((), dtype=torch.float32, device=device)
    largest = torch._foreach_norm(list(tensors), ord=float("inf"))
    finite = torch.isfinite(torch.stack([value.float() for value in largest])).all()
    return 1.0 - finite.float()


def sum_of_squares(tensors: Sequence[Tensor], *, device: torch.device) -> Tensor:
    """The squared L2 norm of all elements: a float32 scalar."""
    if not tensors:
        return torch.zeros((), dtype=torch.float32, device=device)
    norms = torch._foreach_norm(list(tensors), dtype=torch.float32)
    return torch.stack(norms).square().sum()
