"""AdamW on every parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from torch import Tensor

from optimizers.elementwise.adamw import CautiousAdamW
from optimizers.fragments import Fragment
from optimizers.optimizer import Group, NamedOptimizer
from optimizers.routing import Route, adamw_group
from optimizers.specs import AdamWSpec, MatrixFamilySpec


class AdamW(NamedOptimizer):
    """`torch.optim.AdamW`'s arithmetic, with names, counters and rules for missing gradients."""

    def _update_group(self, group: Group, fragments: Sequence[Fragment]) -> NoReturn:
        raise AssertionError(f"AdamW has no algorithm {group['algorithm']!r}")


def route(spec: AdamWSpec, named_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> list[Route]:
    """Everything goes to AdamW; the group decides the weight decay."""
    return [
        Route(name, shape, "adamw", adamw_group(shape), "the optimizer is adamw")
        for name, shape in named_shapes
    ]


def build(
    spec: AdamWSpec, named_parameters: Sequence[tuple[str, Tensor]], *, routes: Sequence[Route]
) -> NamedOptimizer:
    """AdamW with a decayed and an undecayed group."""
    shared = {"beta1": spec.beta1, "beta2": spec.beta2, "epsilon": spec.epsilon}
    options = adamw_options(lr=spec.lr, weight_decay=spec.weight_decay, **shared)
    algorithm = CautiousAdamW if spec.cautious else AdamW
    return algorithm(named_parameters, routes=routes, options=options)


def adamw_options(
    *, lr: float, weight_decay: float, beta1: float, beta2: float, epsilon: float
) -> dict[str, dict[str, Any]]:
    """The options of the two AdamW groups."""
    shared = {"lr": lr, "beta1": beta1, "beta2": beta2, "epsilon": epsilon}
    return {
        "adamw_decay": {**shared, "weight_decay": weight_decay},
        "adamw_no_decay": {**shared, "weight_decay": 0.0},
    }


def auxiliary_adamw_options(spec: MatrixFamilySpec) -> dict[str, dict[str, Any]]:
    """The options of the AdamW part of an optimizer of matrices."""
    return adamw_options(
        lr=spec.auxiliary_lr,
        weight_decay=spec.aux_weight_decay,
        beta1=spec.aux_beta1,
        beta2=spec.aux_beta2,
        epsilon=spec.aux_epsilon,
    )
