"""Checks at the start of every trial, for what the libraries otherwise get wrong in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.study.trial import TrialSpec
from harness.training.backends.protocol import Backend
from optimizers import NamedOptimizer


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


def check_groups(trainable: Sequence[str], optimizer: NamedOptimizer) -> None:
    """Every trainable parameter is in exactly one group.

    Raises:
        PreflightError: naming the parameters that are in none or in several.
    """
    times = Counter(name for group in optimizer.param_groups for name in group["parameter_names"])
    wrong = {name: times[name] for name in trainable if times[name] != 1}
    if wrong:
        raise PreflightError(f"parameters not in exactly one optimizer group: {wrong}")


def fingerprints(optimizer: NamedOptimizer) -> dict[str, Tensor]:
    """Parameter name -> the double-precision sum of squares of what this worker holds of it."""
    return {
        name: weights.double().square().sum() for name, weights in optimizer.held_weights().items()
    }


def check_movement(
    before: Mapping[str, Tensor], optimizer: NamedOptimizer, backend: Backend
) -> dict[str, float]:
    """After the first step every group has moved, on some worker at least.

    Returns the share of the parameters that moved, by group. A group whose learning rate is zero
    may stand still: a resumed trial can begin at the end of its schedule.

    Raises:
        PreflightError: naming the group whose weights are where they were.
    """
    after, names = fingerprints(optimizer), list(before)
    moved_here = torch.stack([(after[name] != before[name]).double() for name in names])
    moved = backend.sum_over_workers(moved_here)
    moved_names = {name for name, times in zip(names, moved.tolist(), strict=True) if times}
    shares = {}
    for group in optimizer.param_groups:
        members = group["parameter_names"]
        shares[group["name"]] = sum(name in moved_names for name in members) / len(members)
        if group["lr"] and not shares[group["name"]]:
            raise PreflightError(
                f"the optimizer group {group['name']!r} did not move in the first step "
                f"(learning rate {group['lr']:g}, {len(members)} parameters)"
            )
    return shares
