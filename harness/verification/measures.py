"""How far two sets of weights or states are apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

# Rounding may turn the sign of an element whose gradient is nothing but rounding.
LEFT_OUT = 1000


def travelled_difference(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], start: Mapping[str, Tensor]
) -> tuple[float, str]:
    """The largest difference of a parameter relative to the way from the start, and its name.

    Of each parameter one element in a thousand, at least one, is left out where it differs most.
    """
    worst, where = 0.0, ""
    for name, goal in expected.items():
        way = float((goal - start[name]).double().norm())
        apart = (found[name] - goal).double().abs().flatten()
        kept = apart.sort().values[: -math.ceil(apart.numel() / LEFT_OUT)]
        # A weight of 1 has steps of 1e-7: a way of that length says nothing.
        floor = 4e-7 * float(goal.double().norm())
        apart_by = float(kept.norm())
        figure = 0.0 if apart_by <= floor else apart_by / (way + 1e-30)
        if not torch.isfinite(apart).all():  # an element that is no number is never left out
            figure = math.inf
        if figure > worst:
            worst, where = figure, name
    return worst, where


def different_bits(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[int, str]:
    """Elements that are not equal (NaN equals nothing), and the first such parameter."""
    counts = {
        name: goal.numel() if found[name].shape != goal.shape else int((found[name] != goal).sum())
        for name, goal in expected.items()
    }
    return sum(counts.values()), next((name for name, count in counts.items() if count), "")


def not_finite(tensors: Mapping[str, Tensor]) -> tuple[int, str]:
    """Elements that are not finite, and the first tensor with one."""
    counts = {
        name: int((~torch.isfinite(tensor)).sum())
        for name, tensor in tensors.items()
        if tensor.is_floating_point()
    }
    return sum(counts.values()), next((name for name, count in counts.items() if count), "")


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """`path -> entry` of a nested state dict, counters and groups' options included."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{index}]")
    else:
        yield path, value


def state_tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict, by path."""
    return {path: leaf for path, leaf in leaves(state) if isinstance(leaf, Tensor)}


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit, NaN included."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape:
            return False
        return bool(((one == other) | (one.isnan() & other.isnan())).all())
    return bool(one == other)


def different_entries(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Paths of a nested state dict that are in one only, or have other values or shapes."""
    ours, theirs = dict(leaves(found)), dict(leaves(expected))
    odd = set(ours) ^ set(theirs)
    changed = {path for path in set(ours) & set(theirs) if not same(ours[path], theirs[path])}
    return sorted(odd | changed)
