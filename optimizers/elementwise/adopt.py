"""ADOPT: Adam whose denominator has not seen the gradient that it divides."""

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
from optimizers.elementwise.moments import decay_weights, update_mean, update_mean_square
from optimizers.elementwise.specs import AdoptSpec
from optimizers.optimizer import Group
from optimizers.routing import Route


class Adopt(ElementwiseOptimizer):
    """The mean of gradients divided by the mean square of those before them.

    `N = clip(G / max(sqrt(V), eps), (t - 1)^(1/4))`, `M <- b1 M + (1 - b1) N`,
    `W <- (1 - lr wd) W - lr M`, then `V <- b2 V + (1 - b2) G^2`. The first gradient makes
    `V = G^2` and no step, so that the first update moves no weight but by its decay.

    Source: Taniguchi et al. 2024, arXiv 2411.02853, algorithm 2. The authors' code has since put a
    larger, shrinking eps in the place of the clip and lets M begin at the first N; this is the
    algorithm of the paper and of the studies that compared it.
    """

    state_names = ("exp_avg", "exp_avg_sq")
    rests_at_first = frozenset({"adopt"})

    def _update_tensors(self, tensors: Tensors, options: Group) -> None:
        means, squares = tensors.state["exp_avg"], tensors.state["exp_avg_sq"]
        gradients = tensors.gradients
        decay_weights(tensors, options)
        if tensors.update == 1:
            torch._foreach_addcmul_(squares, gradients, gradients)
            return
        roots = torch._foreach_sqrt(squares)
        torch._foreach_clamp_min_(roots, options["epsilon"])
        normalized = torch._foreach_div(gradients, roots)
        if options["clip"]:
            bound = (tensors.update - 1) ** 0.25
            torch._foreach_clamp_max_(normalized, bound)
            torch._foreach_clamp_min_(normalized, -bound)
        update_mean(means, list(normalized), beta=options["beta1"])
        directions = means
        if options["cautious"]:
            directions = [mean.clone() for mean in means]
            mask_directions(directions, tensors)
        torch._foreach_add_(tensors.weights, directions, alpha=-options["lr"])
        update_mean_square(squares, gradients, beta=options["beta2"])


def route(spec: AdoptSpec, named_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> list[Route]:
    return route_elements(spec.kind, named_shapes)


def build(
    spec: AdoptSpec, named_parameters: Sequence[tuple[str, Tensor]], *, routes: Sequence[Route]
) -> Adopt:
    options = elementwise_options(spec.kind, **spec.model_dump(exclude={"kind"}))
    return Adopt(named_parameters, routes=routes, options=options)
