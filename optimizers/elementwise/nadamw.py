"""NAdamW: AdamW that looks ahead along its momentum."""

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
from optimizers.elementwise.moments import (
    decay_weights,
    root_mean_squares,
    update_mean,
    update_mean_square,
)
from optimizers.elementwise.specs import NAdamWSpec
from optimizers.optimizer import Group
from optimizers.routing import Route

# Dozat 2016 takes it from Sutskever et al. 2013, as torch.optim.NAdam does.
_SCHEDULE_BASE = 0.96

# A product below this changes no digit of one minus it, in double precision.
_NOTHING = 1e-17


class NAdamW(ElementwiseOptimizer):
    """`W <- (1 - lr wd) W - lr (c_m M + c_g G) / (sqrt(V / (1 - b2^t)) + eps)`.

    M and V are Adam's means, with the new gradient in them. See `lookahead` for `c_m` and `c_g`.

    Source: Dozat 2016, "Incorporating Nesterov Momentum into Adam". `form = "constant"` is the
    baseline of AlgoPerf (Dahl et al. 2023, arXiv 2306.07179), `form = "scheduled"` is
    `torch.optim.NAdam(decoupled_weight_decay=True)`. No difference from either, but that the
    constant form keeps M apart instead of changing it and back.
    """

    state_names = ("exp_avg", "exp_avg_sq")

    def _update_tensors(self, tensors: Tensors, options: Group) -> None:
        means, squares = tensors.state["exp_avg"], tensors.state["exp_avg_sq"]
        beta1, beta2 = options["beta1"], options["beta2"]
        decay_weights(tensors, options)
        update_mean(means, tensors.gradients, beta=beta1)
        update_mean_square(squares, tensors.gradients, beta=beta2)
        roots = root_mean_squares(
            squares, beta=beta2, update=tensors.update, epsilon=options["epsilon"]
        )
        of_mean, of_gradient = lookahead(
            options["form"],
            tensors.update,
            beta1=beta1,
            momentum_decay=options["momentum_decay"],
        )
        directions = list(torch._foreach_mul(means, of_mean))
        torch._foreach_add_(directions, tensors.gradients, alpha=of_gradient)
        if options["cautious"]:
            mask_directions(directions, tensors)
        torch._foreach_addcdiv_(tensors.weights, directions, roots, value=-options["lr"])


def lookahead(
    form: str, update: int, *, beta1: float, momentum_decay: float
) -> tuple[float, float]:
    """`(c_m, c_g)` of update number t, from 1.

    `constant`: `b1 / (1 - b1^t)` and `(1 - b1) / (1 - b1^t)`. `scheduled`, with
    `mu(t) = b1 (1 - 0.96^(t psi) / 2)` and P(t) the product of mu(1) to mu(t):
    `mu(t + 1) / (1 - P(t + 1))` and `(1 - mu(t)) / (1 - P(t))`.
    """
    if form == "constant":
        correction = 1.0 - beta1**update
        return beta1 / correction, (1.0 - beta1) / correction

    def momentum(t: int) -> float:
        return float(beta1 * (1.0 - 0.5 * _SCHEDULE_BASE ** (t * momentum_decay)))

    product = 1.0
    for t in range(1, update + 1):
        product *= momentum(t)
        if product < _NOTHING:
            break
    following = momentum(update + 1)
    return following / (1.0 - product * following), (1.0 - momentum(update)) / (1.0 - product)


def route(spec: NAdamWSpec, named_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> list[Route]:
    return route_elements(spec.kind, named_shapes)


def build(
    spec: NAdamWSpec, named_parameters: Sequence[tuple[str, Tensor]], *, routes: Sequence[Route]
) -> NAdamW:
    options = elementwise_options(spec.kind, **spec.model_dump(exclude={"kind"}))
    return NAdamW(named_parameters, routes=routes, options=options)
