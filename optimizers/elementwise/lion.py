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
from optimizers.elementwise.cautious import mask_directions
from optimizers.elementwise.moments import decay_weights, update_mean
from optimizers.elementwise.specs import LionSpec
from optimizers.optimizer import Group
from optimizers.routing import Route


class Lion(ElementwiseOptimizer):
    """`W <- (1 - lr wd) W - lr sign(b1 M + (1 - b1) G)`, then `M <- b2 M + (1 - b2) G`.

    Source: Chen et al. 2023, arXiv 2302.06675, algorithm 2. No difference from the authors' code
    but for the decay, which vectors and scalars are spared.
    """

    state_names = ("momentum",)

    def _update_tensors(self, tensors: Tensors, options: Group) -> None:
        momenta, gradients = tensors.state["momentum"], tensors.gradients
        directions = list(torch._foreach_lerp(momenta, gradients, 1.0 - options["beta1"]))
        torch._foreach_sign_(directions)
        if options["cautious"]:
            mask_directions(directions, tensors)
        decay_weights(tensors, options)
        torch._foreach_add_(tensors.weights, directions, alpha=-options["lr"])
        update_mean(momenta, gradients, beta=options["beta2"])


def route(spec: LionSpec, named_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> list[Route]:
    return route_elements(spec.kind, named_shapes)


def build(
    spec: LionSpec, named_parameters: Sequence[tuple[str, Tensor]], *, routes: Sequence[Route]
) -> Lion:
    options = elementwise_options(spec.kind, **spec.model_dump(exclude={"kind"}))
    return Lion(named_parameters, routes=routes, options=options)
