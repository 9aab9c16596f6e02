"""Running means of gradients and of their squares, over lists of tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from optimizers.elementwise.base import Tensors
from optimizers.optimizer import Group


def decay_weights(tensors: Tensors, options: Group) -> None:
    """`W <- (1 - lr wd) W`, in place."""
    if options["weight_decay"]:
        torch._foreach_mul_(tensors.weights, 1.0 - options["lr"] * options["weight_decay"])


def update_mean(means: list[Tensor], values: list[Tensor], *, beta: float) -> None:
    """`M <- beta M + (1 - beta) X`, in place."""
    torch._foreach_lerp_(means, values, 1.0 - beta)


def update_mean_square(squares: list[Tensor], values: list[Tensor], *, beta: float) -> None:
    """`V <- beta V + (1 - beta) X^2`, in place."""
    torch._foreach_mul_(squares, beta)
    torch._foreach_addcmul_(squares, values, values, value=1.0 - beta)


def root_mean_squares(
    squares: list[Tensor], *, beta: float, update: int, epsilon: float
) -> list[Tensor]:
    """`sqrt(V / (1 - beta^t)) + epsilon`: Adam's denominators after update number t."""
    roots = list(torch._foreach_sqrt(squares))
    torch._foreach_div_(roots, math.sqrt(1.0 - beta**update))
    torch._foreach_add_(roots, epsilon)
    return roots
