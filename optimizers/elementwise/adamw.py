"""AdamW whose elements move only with their gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from optimizers.elementwise.base import ElementwiseOptimizer, Tensors
from optimizers.elementwise.cautious import mask_directions
from optimizers.elementwise.moments import (
    decay_weights,
    root_mean_squares,
    update_mean,
    update_mean_square,
)
from optimizers.fragments import Fragment
from optimizers.optimizer import Group


class CautiousAdamW(ElementwiseOptimizer):
    """AdamW with the mask of `mask_directions` on its direction: "C-AdamW".

    `M <- b1 M + (1 - b1) G`, `V <- b2 V + (1 - b2) G^2`,
    `W <- (1 - lr wd) W - lr mask(M / (1 - b1^t)) / (sqrt(V / (1 - b2^t)) + eps)`.

    Source: Liang et al. 2024, arXiv 2411.16085, algorithm 2. Difference from the authors' code:
    the weights decay before the step, as torch's AdamW does it, not after.

    The same routes, groups and state as `optimizers.adamw.AdamW`.
    """

    state_names = ("exp_avg", "exp_avg_sq")

    def _update_elements(self, group: Group, fragments: Sequence[Fragment]) -> None:
        self._update_group(group, fragments)

    def _update_tensors(self, tensors: Tensors, options: Group) -> None:
        means, squares = tensors.state["exp_avg"], tensors.state["exp_avg_sq"]
        beta1, beta2 = options["beta1"], options["beta2"]
        decay_weights(tensors, options)
        update_mean(means, tensors.gradients, beta=beta1)
        update_mean_square(squares, tensors.gradients, beta=beta2)
        roots = root_mean_squares(
            squares, beta=beta2, update=tensors.update, epsilon=options["epsilon"]
        )
        directions = list(torch._foreach_div(means, 1.0 - beta1**tensors.update))
        mask_directions(directions, tensors)
        torch._foreach_addcdiv_(tensors.weights, directions, roots, value=-options["lr"])
