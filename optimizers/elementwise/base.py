"""What every elementwise optimizer has: tensors in, weights and state changed in place.

An update sees lists of flat tensors, one for each parameter of a group: what this worker holds of
it, maybe all, maybe nothing. The same lines so serve every backend. A norm or a mean over a whole
parameter is no matter of its elements here: it must go through `Tensors.totals`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from optimizers.fragments import Fragment
from optimizers.optimizer import Group, NamedOptimizer
from optimizers.routing import Route


@dataclass(frozen=True, eq=False)
class Tensors:
    """The parameters of one group, as they lie on this worker; all lists in the same order.

    Args:
        names: Of the parameters.
        weights: `(n_i,)` each, views; n_i is 0 for a parameter that lies elsewhere.
        gradients: The averaged raw gradients, views, which an update leaves as they are; zero
            where none arrived.
        state: Key -> tensors of the same sizes, zero before the first update.
        updates: For each parameter, the number of this update, from 1: the same for all of them.
        numels: Elements of each whole parameter.
        totals: Sums over whole parameters from sums over what is here, `(F,)` each. A collective
            call where weights are sharded: every worker makes it, equally often.
    """

    names: list[str]
    weights: list[Tensor]
    gradients: list[Tensor]
    state: Mapping[str, list[Tensor]]
    updates: list[int]
    numels: list[int]
    totals: Callable[[Tensor], Tensor]

    @property
    def update(self) -> int:
        """The number of this update, from 1."""
        return self.updates[0]


class ElementwiseOptimizer(NamedOptimizer):
    """A subclass names its state and writes `_update_tensors`."""

    state_names: ClassVar[tuple[str, ...]] = ()
    """Names of its state, of a weight's shape each."""

    settings: ClassVar[Mapping[str, Any]] = {}
    """Of one that is used as `kind = "external"`: its options besides `lr`, with their defaults."""

    def __init__(
        self,
        named_parameters: Sequence[tuple[str, Tensor]],
        *,
        routes: Sequence[Route],
        options: Mapping[str, Group],
    ) -> None:
        algorithms = {route.algorithm for route in routes} - {"adamw"}
        self.state_keys = {
            **NamedOptimizer.state_keys,
            **dict.fromkeys(algorithms, self.state_names),
        }
        super().__init__(named_parameters, routes=routes, options=options)

    @abstractmethod
    def _update_tensors(self, tensors: Tensors, options: Group) -> None:
        """One update in place of the tensors of a group with these options."""

    def _update_group(self, group: Group, fragments: Sequence[Fragment]) -> None:
        # A correction for bias depends on the count. All workers count alike, so that they make
        # the same calls.
        by_count: dict[int, list[Fragment]] = {}
        for fragment in fragments:
            by_count.setdefault(self._updates[fragment.name], []).append(fragment)
        for alike in by_count.values():
            self._update_tensors(self._tensors(alike), group)

    def _tensors(self, fragments: Sequence[Fragment]) -> Tensors:
        gradients = [fragment.gradient() for fragment in fragments]
        weights = [fragment.weight() for fragment in fragments]
        return Tensors(
            names=[fragment.name for fragment in fragments],
            weights=weights,
            gradients=[
                torch.zeros_like(weight) if gradient is None else gradient
                for weight, gradient in zip(weights, gradients, strict=True)
            ],
            state={
                key: [self._held_state(fragment, key) for fragment in fragments]
                for key in self.state_names
            },
            updates=[self._updates[fragment.name] for fragment in fragments],
            numels=[self._route_of[fragment.name].numel for fragment in fragments],
            totals=lambda partial: self._totals(fragments, partial),
        )

    def _held_state(self, fragment: Fragment, key: str) -> Tensor:
        if not fragment.numel:
            return torch.empty(0, dtype=self._state_dtype(fragment.name), device=self._device)
        return self._piece_state(fragment.name, key, (fragment.start, fragment.stop))


def route_elements(kind: str, named_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> list[Route]:
    """Everything to the optimizer `kind`; the group decides the weight decay."""
    return [
        Route(name, shape, kind, elementwise_group(kind, shape), f"the optimizer is {kind}")
        for name, shape in named_shapes
    ]


def elementwise_group(kind: str, shape: Sequence[int]) -> str:
    """`<kind>_decay` for tensors of two or more dimensions, `<kind>_no_decay` for the others."""
    return f"{kind}_decay" if len(shape) >= 2 else f"{kind}_no_decay"


def elementwise_options(
    kind: str, *, lr: float, weight_decay: float, **shared: Any
) -> dict[str, dict[str, Any]]:
    """The options of the two groups: matrices decay, vectors and scalars do not."""
    return {
        f"{kind}_decay": {"lr": lr, **shared, "weight_decay": weight_decay},
        f"{kind}_no_decay": {"lr": lr, **shared, "weight_decay": 0.0},
    }
