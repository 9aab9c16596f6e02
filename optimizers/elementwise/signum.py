"""Signum: a step of fixed size along the sign of the momentum."""

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
from optimizers.elementwise.specs import SignumSpec
from optimizers.optimizer import Group
from optimizers.routing import Route


class Signum(ElementwiseOptimizer):
    """`M <- b M + (1 - b) G`, then `W <- (1 - lr wd) W - lr sign(M)`.

    With `nesterov` the sign is that of `b M + (1 - b) G`, with the new M. A momentum of 0 is
    signSGD.

    Source: Bernstein et al. 2018, arXiv 1802.04434, algorithm 2; decoupled decay and Nesterov as in
    Semenov et al. 2025, arXiv 2509.01440. Their momentum `b M + G` has the same sign.
    """

    state_names = ("momentum",)

    def _update_tensors(self, tensors: Tensors, options: Group) -> None:
        momenta, beta = tensors.state["momentum"], options["momentum"]
        update_mean(momenta, tensors.gradients, beta=beta)
        if options["nesterov"]:
            momenta = list(torch._foreach_lerp(momenta, tensors.gradients, 1.0 - beta))
        directions = list(torch._foreach_sign(momenta))
        if options["cautious"]:
            mask_directions(directions, tensors)
        decay_weights(tensors, options)
        torch._foreach_add_(tensors.weights, directions, alpha=-options["lr"])


def route(spec: SignumSpec, named_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> list[Route]:
    return route_elements(spec.kind, named_shapes)


def build(
    spec: SignumSpec, named_parameters: Sequence[tuple[str, Tensor]], *, routes: Sequence[Route]
) -> Signum:
    options = elementwise_options(spec.kind, **spec.model_dump(exclude={"kind"}))
    return Signum(named_parameters, routes=routes, options=options)
