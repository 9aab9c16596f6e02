"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

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
from optimizers.matrices.specs import SoapSpec
from optimizers.optimizer import Group
from optimizers.routing import Matrix, Route
from optimizers.sharing import MatrixWork

# Relative to the largest eigenvalue, in float64: see `eigenbasis`.
_TIE_BREAK = 1e-9


class Soap(PreconditionedOptimizer):
    """Adam on `G' = Q_L^T G Q_R`, turned back: `W <- (1 - lr wd) W - lr Q_L A Q_R^T`.

    `L <- b L + (1 - b) G G^T` and `R <- b R + (1 - b) G^T G`; Q_L and Q_R are their eigenvectors,
    found exactly in the first update and then by one power iteration and a QR decomposition every
    `precondition_frequency` updates. `A = M' / (sqrt(V) + eps)`, both corrected for their bias,
    with M the mean gradient (kept unturned, and turned each time) and V the mean square of G'.

    The raw gradient travels to the matrix's owner, who keeps all state. As in the authors' code the
    first update only measures: neither weights nor moments change.

    Source: Vyas et al. 2024, arXiv 2409.11321, algorithm 3 and the authors' code. Differences: the
    weights decay before the step instead of after it; the first basis is found in float64; vectors,
    embedding, head and (by default) the router go to AdamW, where the authors give SOAP all
    matrices and leave a long side unturned.
    """

    def __init__(
        self,
        named_parameters: Sequence[tuple[str, Tensor]],
        *,
        routes: Sequence[Route],
        options: Mapping[str, Group],
        spec: SoapSpec,
    ) -> None:
        self.spec = spec
        self.rests_at_first = frozenset({"soap"})
        super().__init__(
            named_parameters, routes=routes, options=options, algorithm="soap", settings=spec
        )

    def _works(self) -> Mapping[tuple[int, int], MatrixWork]:
        return works(self.spec, self.routes, device=self._device)

    def _owner_shapes(self, matrix: Matrix) -> dict[str, tuple[int, ...]]:
        rows, columns = preconditioned_sides(self.spec, matrix)
        return {
            "left": (rows, rows),
            "right": (columns, columns),
            "left_basis": (rows, rows),
            "right_basis": (columns, columns),
            "exp_avg": (matrix.rows, matrix.columns),
            "exp_avg_sq": (matrix.rows, matrix.columns),
        }

    def _compute(self, bucket: Bucket, batch: Tensor, group: Group) -> Tensor:
        keys = self._owner_shapes(bucket.shares[0].matrix)
        state = {key: bucket.owner_state(key) for key in keys}
        update, direction = self._update_number(bucket), torch.zeros_like(batch)
        for part in self._together(len(batch)):
            one = {key: tensor[part] for key, tensor in state.items()}
            if update == 1:
                start(batch[part], one, beta=self.spec.statistics_beta)
            else:
                direction[part] = advance(batch[part], one, group, self.spec, step=update - 1)
        return direction

    def _apply(
        self, bucket: Bucket, weights: list[Tensor], results: list[Tensor], group: Group
    ) -> None:
        if self._update_number(bucket) > 1:
            super()._apply(bucket, weights, results, group)


def start(gradient: Tensor, state: Mapping[str, Tensor], *, beta: float) -> None:
    """The first statistics and their eigenbases, in place; `gradient` is `(k, m, n)`."""
    for side, oriented in sides_of(gradient):
        if state[side].numel():
            exact = oriented.double() @ oriented.double().mT
            state[side].copy_((1.0 - beta) * exact)
            state[f"{side}_basis"].copy_(eigenbasis(exact))


def advance(
    gradient: Tensor, state: Mapping[str, Tensor], group: Group, spec: SoapSpec, *, step: int
) -> Tensor:
    """One update of the state, in place, and the direction `(k, m, n)`, bias corrected.

    Args:
        step: Its number, from 1, without the one that only measured.
    """
    beta1, beta2 = group["beta1"], group["beta2"]
    turned = turn(gradient, state)
    state["exp_avg"].lerp_(gradient, 1.0 - beta1)
    state["exp_avg_sq"].lerp_(turned.square(), 1.0 - beta2)
    adam = turn(state["exp_avg"], state) / (state["exp_avg_sq"].sqrt() + group["epsilon"])
    correction = math.sqrt(1.0 - beta2**step) / (1.0 - beta1**step)
    direction: Tensor = turn_back(adam, state) * correction
    for side, oriented in sides_of(gradient):
        if state[side].numel():
            state[side].lerp_(oriented @ oriented.mT, 1.0 - spec.statistics_beta)
            if step % spec.precondition_frequency == 0:
                refresh(side, state)
    return direction


def turn(matrix: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """`Q_L^T X Q_R`; a side without a basis stays as it is."""
    if state["left_basis"].numel():
        matrix = state["left_basis"].mT @ matrix
    return matrix @ state["right_basis"] if state["right_basis"].numel() else matrix


def turn_back(matrix: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """`Q_L X Q_R^T`."""
    if state["left_basis"].numel():
        matrix = state["left_basis"] @ matrix
    return matrix @ state["right_basis"].mT if state["right_basis"].numel() else matrix


def refresh(side: str, state: Mapping[str, Tensor]) -> None:
    """One power iteration of a basis, orthogonalised by QR, from the largest eigenvalue down.

    The columns are put in order first, and the mean squares go with them.
    """
    basis = state[f"{side}_basis"]
    product = state[side] @ basis
    order = (basis * product).sum(-2).argsort(dim=-1, descending=True, stable=True)
    basis.copy_(torch.linalg.qr(product.gather(-1, order[:, None].expand_as(product)))[0])
    squares = state["exp_avg_sq"]
    oriented = squares if side == "right" else squares.mT
    oriented.copy_(oriented.gather(-1, order[:, None].expand_as(oriented)))


def eigenbasis(statistics: Tensor) -> Tensor:
    """Eigenvectors `(k, m, m)` of float64 matrices, from the largest eigenvalue down.

    The product of one gradient with itself lacks rank unless the gradient is square, and any basis
    of its null space is as good as another. Which one comes out would hang on the last bit of the
    gradient, and so on the number of workers. A small diagonal that rises from row to row, far
    below the accuracy of float32, chooses one that moves only as far as the gradient does.
    """
    size = statistics.shape[-1]
    scale = statistics.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None].clamp_min(1e-30)
    ramp = torch.linspace(0.0, 1.0, size, dtype=statistics.dtype, device=statistics.device)
    tied = statistics + torch.diag_embed(_TIE_BREAK * scale * ramp)
    vectors: Tensor = torch.linalg.eigh(tied)[1]
    return vectors.flip(-1)


def works(
    spec: SoapSpec, routes: Sequence[Route], *, device: torch.device
) -> dict[tuple[int, int], MatrixWork]:
    """A statistic and three turns a side; a power iteration and a QR with its Q, (2 + 8/3) a^3."""
    return preconditioned_works(spec, routes, what="Adam in the eigenbasis", refresh=14 / 3)


def route(spec: SoapSpec, named_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> list[Route]:
    return route_preconditioned(spec, named_shapes)


def build(
    spec: SoapSpec, named_parameters: Sequence[tuple[str, Tensor]], *, routes: Sequence[Route]
) -> Soap:
    """SOAP and its AdamW part in one object."""
    options = auxiliary_adamw_options(spec)
    fields = ("lr", "weight_decay", "beta1", "beta2", "epsilon")
    options["soap"] = {field: getattr(spec, field) for field in fields}
    return Soap(named_parameters, routes=routes, options=options, spec=spec)
