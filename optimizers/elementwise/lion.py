"""Lion: a step of fixed size along the sign of a momentum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optimizers.elementwise.base import (
    ElementwiseOptimizer,
    Tensors,
    elementwise_options,
    route_elements,
)
from optimizers.elementwise.specs import LionSpec
from optimizers.optimizer import Group
from optimizers.routing import Route


class Lion(ElementwiseOptimizer):
    """`W <- (1 - lr wd) W - lr sign(b1 M + (1 - b1) G)`, then `M <- b2 M + (1 - b2) G`.

    Source: Chen et al. 2023, arXiv 2302.06675, algorithm 2.
    """

    state_names = ("momentum",)

    def _update_tensors(self, tensors: Tensors, options: Group) -> None:
        momenta, gradients = tensors.state["momentum"], tensors.gradients
        directions = torch._foreach_lerp(momenta, gradients, 1.0 - options["beta1"])
        torch._foreach_sign_(directions)
        torch._foreach_mul_(tensors.weights, 1.0 - options["lr"] * options["weight_decay"])
        torch._foreach_add_(tensors.weights, directions, alpha=-options["lr"])
        torch._foreach_lerp_(momenta, gradients, 1.0 - options["beta2"])


def route(spec: LionSpec, named_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> list[Route]:
    return route_elements(spec.kind, named_shapes)


def build(
    spec: LionSpec, named_parameters: Sequence[tuple[str, Tensor]], *, routes: Sequence[Route]
) -> Lion:
    options = elementwise_options(
        spec.kind,
        lr=spec.lr,
        weight_decay=spec.weight_decay,
        beta1=spec.beta1,
        beta2=spec.beta2,
    )
    return Lion(named_parameters, routes=routes, options=options)
