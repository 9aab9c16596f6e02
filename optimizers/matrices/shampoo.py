"""Shampoo: the gradient between the inverse fourth roots of its statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from optimizers.adamw import auxiliary_adamw_options
from optimizers.buckets import Bucket
from optimizers.matrices.preconditioned import (
    PreconditionedOptimizer,
    preconditioned_sides,
    preconditioned_works,
    route_preconditioned,
    sides_of,
)
from optimizers.matrices.specs import ShampooSpec
from optimizers.optimizer import Group
from optimizers.routing import Matrix, Route
from optimizers.sharing import MatrixWork


class Shampoo(PreconditionedOptimizer):
    """`W <- (1 - lr wd) W - lr D` with `D = L^(-1/4) M R^(-1/4)`.

    `L <- b L + (1 - b) G G^T`, `R <- b R + (1 - b) G^T G` (with b = 1 sums, as in the first paper),
    M the mean gradient, without a correction of its bias. To each eigenvalue is added a small part
    of the largest one. The roots are taken in the first update
    and then every `precondition_frequency` updates; where one side is left out the other's
    exponent stays. With grafting D gets the Frobenius norm of Adam's step of the same gradients,
    so that the rate is Adam's. Without it a matrix that had no gradient yet when its roots were
    taken (an expert without a token) stays until they are taken again.

    Source: Gupta et al. 2018, arXiv 1802.09568, algorithm 1; grafting and means as in Anil et al.
    2020, arXiv 2002.09018, and Shi et al. 2023, arXiv 2309.06497. Difference: matrices are not cut
    into blocks; a long side is left out.
    """

    def __init__(
        self,
        named_parameters: Sequence[tuple[str, Tensor]],
        *,
        routes: Sequence[Route],
        options: Mapping[str, Group],
        spec: ShampooSpec,
    ) -> None:
        self.spec = spec
        super().__init__(
            named_parameters, routes=routes, options=options, algorithm="shampoo", settings=spec
        )

    def _works(self) -> Mapping[tuple[int, int], MatrixWork]:
        return works(self.spec, self.routes, device=self._device)

    def _owner_shapes(self, matrix: Matrix) -> dict[str, tuple[int, ...]]:
        rows, columns = preconditioned_sides(self.spec, matrix)
        shapes: dict[str, tuple[int, ...]] = {
            "left": (rows, rows),
            "right": (columns, columns),
            "left_root": (rows, rows),
            "right_root": (columns, columns),
            "exp_avg": (matrix.rows, matrix.columns),
        }
        if self.spec.grafting == "adam":
            shapes["exp_avg_sq"] = (matrix.rows, matrix.columns)
        return shapes

    def _compute(self, bucket: Bucket, batch: Tensor, group: Group) -> Tensor:
        keys = self._owner_shapes(bucket.shares[0].matrix)
        state = {key: bucket.owner_state(key) for key in keys}
        update, direction = self._update_number(bucket), torch.empty_like(batch)
        for part in self._together(len(batch)):
            one = {key: tensor[part] for key, tensor in state.items()}
            direction[part] = advance(batch[part], one, group, self.spec, update=update)
        return direction


def advance(
    gradient: Tensor, state: Mapping[str, Tensor], group: Group, spec: ShampooSpec, *, update: int
) -> Tensor:
    """One update of the state, in place, and the direction `(k, m, n)`; `update` counts from 1."""
    beta1, beta2 = group["beta1"], group["beta2"]
    state["exp_avg"].lerp_(gradient, 1.0 - beta1)
    direction = state["exp_avg"]
    for side, oriented in sides_of(gradient):
        if state[side].numel():
            share = 1.0 - beta2 if beta2 < 1.0 else 1.0
            state[side].mul_(beta2).add_(oriented @ oriented.mT, alpha=share)
            if (update - 1) % spec.precondition_frequency == 0:
                root = inverse_fourth_root(state[side], epsilon=spec.matrix_epsilon)
                if spec.grafting == "none":  # nothing takes back how large that of zeros is
                    root *= state[side].flatten(1).any(1)[:, None, None]
                state[f"{side}_root"].copy_(root)
            root = state[f"{side}_root"]
            direction = root @ direction if side == "left" else direction @ root
    if spec.grafting == "none":
        return direction.clone()
    state["exp_avg_sq"].lerp_(gradient.square(), 1.0 - spec.grafting_beta2)
    correction = math.sqrt(1.0 - spec.grafting_beta2**update) / (1.0 - beta1**update)
    adam = state["exp_avg"] / (state["exp_avg_sq"].sqrt() + group["epsilon"]) * correction
    wanted, found = (torch.linalg.matrix_norm(x, keepdim=True) for x in (adam, direction))
    grafted: Tensor = direction * (wanted / found.clamp_min(1e-16))
    return grafted


def inverse_fourth_root(statistics: Tensor, *, epsilon: float) -> Tensor:
    """`(S + eps s 1)^(-1/4)` of `(k, m, m)` matrices, s the largest eigenvalue of each.

    A smooth function of S: which basis of equal eigenvalues comes out does not matter. Of zeros it
    is a large multiple of 1.
    """
    values, vectors = torch.linalg.eigh(statistics)
    largest = values[:, -1:].clamp_min(1e-30)
    roots = (values.clamp_min(0.0) + epsilon * largest).pow(-0.25)
    found: Tensor = (vectors * roots[:, None]) @ vectors.mT
    return found


def works(
    spec: ShampooSpec, routes: Sequence[Route], *, device: torch.device
) -> dict[tuple[int, int], MatrixWork]:
    """A statistic and a product a side; an eigendecomposition of about 9 a^3, and a product."""
    return preconditioned_works(spec, routes, what="inverse fourth roots", refresh=11.0)


def route(spec: ShampooSpec, named_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> list[Route]:
    return route_preconditioned(spec, named_shapes)


def build(
    spec: ShampooSpec, named_parameters: Sequence[tuple[str, Tensor]], *, routes: Sequence[Route]
) -> Shampoo:
    """Shampoo and its AdamW part in one object."""
    options = auxiliary_adamw_options(spec)
    fields = ("lr", "weight_decay", "beta1", "beta2", "epsilon")
    options["shampoo"] = {field: getattr(spec, field) for field in fields}
    return Shampoo(named_parameters, routes=routes, options=options, spec=spec)
