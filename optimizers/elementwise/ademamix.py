"""AdEMAMix: AdamW with a second, slow mean of the gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from optimizers.elementwise.base import (
    ElementwiseOptimizer,
    Tensors,
    elementwise_options,
    route_elements,
)
from optimizers.elementwise.moments import (
    decay_weights,
    root_mean_squares,
    update_mean,
    update_mean_square,
)
from optimizers.elementwise.specs import AdEMAMixSpec
from optimizers.optimizer import Group
from optimizers.routing import Route


class AdEMAMix(ElementwiseOptimizer):
    """A fast mean `M1` (b1), a slow mean `M2` (b3, not corrected for its start), a mean square V.

    `W <- (1 - lr wd) W - lr (M1 / (1 - b1^t) + alpha M2) / (sqrt(V / (1 - b2^t)) + eps)`, with
    alpha and b3 of `slow_mean`.

    Source: Pagliardini, Ablin and Grangier 2024, arXiv 2409.03137, algorithm 1. No difference from
    the authors' code, but that one `warmup` serves both schedules, as in all their experiments.
    """

    state_names = ("exp_avg", "exp_avg_slow", "exp_avg_sq")

    def _update_tensors(self, tensors: Tensors, options: Group) -> None:
        fast, slow = tensors.state["exp_avg"], tensors.state["exp_avg_slow"]
        squares, beta1, beta2 = tensors.state["exp_avg_sq"], options["beta1"], options["beta2"]
        alpha, beta3 = slow_mean(
            tensors.update,
            warmup=options["warmup"],
            alpha=options["alpha"],
            beta1=beta1,
            beta3=options["beta3"],
        )
        decay_weights(tensors, options)
        update_mean(fast, tensors.gradients, beta=beta1)
        update_mean(slow, tensors.gradients, beta=beta3)
        update_mean_square(squares, tensors.gradients, beta=beta2)
        roots = root_mean_squares(
            squares, beta=beta2, update=tensors.update, epsilon=options["epsilon"]
        )
        directions = list(torch._foreach_div(fast, 1.0 - beta1**tensors.update))
        torch._foreach_add_(directions, slow, alpha=alpha)
        torch._foreach_addcdiv_(tensors.weights, directions, roots, value=-options["lr"])


def slow_mean(
    update: int, *, warmup: int, alpha: float, beta1: float, beta3: float
) -> tuple[float, float]:
    """`(alpha, b3)` of update number t: from 0 and b1 to their ends at t = warmup, then constant.

    alpha rises linearly. Of b3 it is the half-life, proportional to `1 / log(b3)`, that does.
    """
    if update >= warmup:
        return alpha, beta3
    share = update / warmup
    inverse = (1.0 - share) * _memory(beta1) + share * _memory(beta3)
    return share * alpha, math.exp(1.0 / inverse) if inverse else 0.0


def _memory(beta: float) -> float:
    return 1.0 / math.log(beta) if beta else 0.0


def route(spec: AdEMAMixSpec, named_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> list[Route]:
    return route_elements(spec.kind, named_shapes)


def build(
    spec: AdEMAMixSpec, named_parameters: Sequence[tuple[str, Tensor]], *, routes: Sequence[Route]
) -> AdEMAMix:
    options = elementwise_options(spec.kind, **spec.model_dump(exclude={"kind"}))
    return AdEMAMix(named_parameters, routes=routes, options=options)
