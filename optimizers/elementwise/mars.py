"""MARS-AdamW: AdamW on gradients corrected by how they changed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optimizers.elementwise.base import (
    ElementwiseOptimizer,
    Tensors,
    elementwise_group,
    elementwise_options,
)
from optimizers.elementwise.cautious import mask_directions
from optimizers.elementwise.moments import (
    decay_weights,
    root_mean_squares,
    update_mean,
    update_mean_square,
)
from optimizers.elementwise.specs import MarsSpec
from optimizers.optimizer import Group
from optimizers.routing import Route, adamw_group


class Mars(ElementwiseOptimizer):
    """AdamW on `C = G + gamma b1 / (1 - b1) (G - G_last)`, scaled to a norm of at most 1.

    `C <- C / max(1, |C|)`, `M <- b1 M + (1 - b1) C`, `V <- b2 V + (1 - b2) C^2`,
    `W <- (1 - lr wd) W - lr M / (1 - b1^t) / (sqrt(V / (1 - b2^t)) + eps)`.

    The norm is that of the whole parameter, wherever its elements lie: a collective call where
    weights are sharded. `G_last` is the gradient of the last step, on other data than G: the
    approximation ("MARS-approx") that saves a second backward pass, and what the authors recommend.

    Source: Yuan et al. 2024, arXiv 2411.10438, algorithm 1 with the preconditioner of AdamW. As in
    the authors' code the gradient before the first is zero, and vectors and scalars are left to
    AdamW at half the rate. Differences: those do not decay, and stacks of matrices (experts) go to
    MARS as matrices do.
    """

    state_names = ("exp_avg", "exp_avg_sq", "last_gradient")

    def _update_tensors(self, tensors: Tensors, options: Group) -> None:
        means, squares = tensors.state["exp_avg"], tensors.state["exp_avg_sq"]
        beta1, beta2 = options["beta1"], options["beta2"]
        corrected = self._corrected_gradients(tensors, options)
        decay_weights(tensors, options)
        update_mean(means, corrected, beta=beta1)
        update_mean_square(squares, corrected, beta=beta2)
        roots = root_mean_squares(
            squares, beta=beta2, update=tensors.update, epsilon=options["epsilon"]
        )
        directions = list(torch._foreach_div(means, 1.0 - beta1**tensors.update))
        if options["cautious"]:
            mask_directions(directions, tensors)
        torch._foreach_addcdiv_(tensors.weights, directions, roots, value=-options["lr"])

    def _corrected_gradients(self, tensors: Tensors, options: Group) -> list[Tensor]:
        last, beta1 = tensors.state["last_gradient"], options["beta1"]
        corrected = list(torch._foreach_sub(tensors.gradients, last))
        torch._foreach_copy_(last, tensors.gradients)
        torch._foreach_mul_(corrected, options["gamma"] * beta1 / (1.0 - beta1))
        torch._foreach_add_(corrected, tensors.gradients)
        wide = torch.promote_types(corrected[0].dtype, torch.float32)
        norms_here = torch.stack(list(torch._foreach_norm(corrected, dtype=wide)))
        norms = tensors.totals(norms_here.square()).sqrt()
        torch._foreach_div_(corrected, list(norms.clamp(min=1.0).unbind()))
        return corrected


def route(spec: MarsSpec, named_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> list[Route]:
    """Matrices, and all else if `optimize_1d`, to MARS; vectors and scalars to AdamW."""
    return [
        Route(name, shape, "mars", elementwise_group("mars", shape), "the optimizer is mars")
        if spec.optimize_1d or len(shape) >= 2
        else Route(name, shape, "adamw", adamw_group(shape), "a vector or scalar, not a matrix")
        for name, shape in named_shapes
    ]


def build(
    spec: MarsSpec, named_parameters: Sequence[tuple[str, Tensor]], *, routes: Sequence[Route]
) -> Mars:
    shared = {"beta1", "beta2", "epsilon", "gamma", "cautious", "lr", "weight_decay"}
    options = elementwise_options("mars", **spec.model_dump(include=shared))
    options["adamw_no_decay"] = {
        "lr": spec.rate_1d,
        "beta1": spec.beta1_1d,
        "beta2": spec.beta2_1d,
        "epsilon": spec.epsilon,
        "weight_decay": 0.0,
    }
    return Mars(named_parameters, routes=routes, options=options)
