"""An optimizer as a user writes it, importable by the gangs because it lies beside their script."""

import torch

from optimizers.elementwise.base import ElementwiseOptimizer, Tensors
from optimizers.optimizer import Group


class SignMomentum(ElementwiseOptimizer):
    """Momentum, its sign, and a mean over each whole parameter, which workers have to add up."""

    state_names = ("momentum",)
    settings = {"beta": 0.9, "weight_decay": 0.1}  # noqa: RUF012

    def _update_tensors(self, tensors: Tensors, options: Group) -> None:
        momenta = tensors.state["momentum"]
        torch._foreach_lerp_(momenta, tensors.gradients, 1.0 - options["beta"])
        sizes = tensors.totals(torch.stack([momentum.abs().sum() for momentum in momenta]))
        for weight, momentum, size, numel in zip(
            tensors.weights, momenta, sizes, tensors.numels, strict=True
        ):
            weight.mul_(1.0 - options["lr"] * options["weight_decay"])
            weight.sub_(momentum / (momentum.abs() + size / numel + 1e-8) * options["lr"])
