"""Checks at the start of every trial, for what the libraries otherwise get wrong in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.backends import Backend
from harness.config import TrialSpec


class PreflightError(RuntimeError):
    """A trial would have measured something else than its spec says."""


def check_gang(backend: Backend, spec: TrialSpec) -> dict[str, Any]:
    """Every worker knows of all the others.

    Raises:
        PreflightError: the backend sees a different number of workers than the spec.
    """
    counted = int(backend.sum_over_workers(torch.ones(1, device=backend.device)).item())
    if not backend.num_workers == counted == spec.workers:
        raise PreflightError(
            f"the spec asks for {spec.workers} workers, the backend believes in "
            f"{backend.num_workers}, and an all-reduce counted {counted}"
        )
    return {**backend.describe(), "workers_counted": counted}


def check_groups(
    named_parameters: Sequence[tuple[str, nn.Parameter]], optimizer: torch.optim.Optimizer
) -> None:
    """Every trainable parameter is in exactly one group.

    Raises:
        PreflightError: naming the parameters that are in none or in several.
    """
    times = Counter(id(p) for group in optimizer.param_groups for p in group["params"])
    wrong = {
        name: times[id(p)] for name, p in named_parameters if p.requires_grad and times[id(p)] != 1
    }
    if wrong:
        raise PreflightError(f"parameters not in exactly one optimizer group: {wrong}")


def fingerprints(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """One vector per group, a double-precision sum of squares per parameter; equal iff unmoved."""
    return [
        torch.stack([p.detach().double().square().sum() for p in group["params"]])
        if group["params"]
        else torch.zeros(0)
        for group in optimizer.param_groups
    ]


def check_movement(
    before: Sequence[Tensor], optimizer: torch.optim.Optimizer, backend: Backend
) -> dict[str, float]:
    """After the first step every group has moved, on some worker at least.

    Returns the share of the parameters that moved, by group.

    Raises:
        PreflightError: naming the group whose weights are where they were.
    """
    shares = {}
    for index, (old, new) in enumerate(zip(before, fingerprints(optimizer), strict=True)):
        group = optimizer.param_groups[index]
        name = str(group.get("name", index))
        moved = backend.sum_over_workers((old != new).double().sum().reshape(1)).item()
        if not moved and len(old):
            raise PreflightError(
                f"the optimizer group {name!r} did not move in the first step "
                f"(learning rate {group['lr']:g}, {len(old)} parameters)"
            )
        shares[name] = moved / max(1, len(old) * backend.num_workers)
    return shares
