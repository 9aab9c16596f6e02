"""What SOAP and Shampoo share: the owner gets the gradient and keeps statistics of both sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from optimizers.buckets import Bucket
from optimizers.matrices.base import MatrixOptimizer
from optimizers.matrices.specs import PreconditionedSpec
from optimizers.optimizer import Group
from optimizers.routing import FUSED_QKV, Matrix, Route, default_rules, route_parameters
from optimizers.sharing import MatrixWork


class PreconditionedOptimizer(MatrixOptimizer):
    """`W <- (1 - lr wd) W - lr D`, with D from the owner, who gets the raw gradient in float32.

    All state is the owner's, in float32.
    """

    orthogonalizes = frozenset()

    def __init__(
        self,
        named_parameters: Sequence[tuple[str, Tensor]],
        *,
        routes: Sequence[Route],
        options: Mapping[str, Group],
        algorithm: str,
        settings: PreconditionedSpec,
    ) -> None:
        self._settings = settings
        super().__init__(
            named_parameters, routes=routes, options=options, algorithm=algorithm, spec=settings
        )

    def _send(self, bucket: Bucket, group: Group) -> tuple[Tensor, None]:
        """The gradient, as it is."""
        return bucket.gradient(), None

    def _together(self, count: int) -> Iterator[slice]:
        """What is computed in one batch: all, or each matrix."""
        if not self._settings.batch_invariant:
            yield slice(0, count)
            return
        yield from (slice(k, k + 1) for k in range(count))

    def _apply(
        self, bucket: Bucket, weights: list[Tensor], results: list[Tensor], group: Group
    ) -> None:
        if not weights:
            return
        torch._foreach_mul_(weights, 1.0 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, results, alpha=-group["lr"])


def sides_of(gradient: Tensor) -> tuple[tuple[str, Tensor], tuple[str, Tensor]]:
    """The two sides of `(k, m, n)`, each oriented so that its statistic is `X X^T`."""
    return ("left", gradient), ("right", gradient.mT)


def preconditioned_sides(spec: PreconditionedSpec, matrix: Matrix) -> tuple[int, int]:
    """The sizes of both statistics of a matrix: 0 for a side that is too long."""
    rows, columns = (
        side if side <= spec.max_precond_dim else 0 for side in (matrix.rows, matrix.columns)
    )
    return rows, columns


def preconditioned_works(
    spec: PreconditionedSpec, routes: Sequence[Route], *, what: str, refresh: float
) -> dict[tuple[int, int], MatrixWork]:
    """What owners do, for every shape.

    Args:
        what: In words.
        refresh: Operations to refresh a side of length a, in a^3; spread over the updates.
    """
    shapes = dict.fromkeys(shape for route in routes for shape in route.matrix_shapes)
    found = {}
    for rows, columns in shapes:
        sides = [(a, b) for a, b in ((rows, columns), (columns, rows)) if a <= spec.max_precond_dim]
        # Products of a square with the matrix: a statistic and up to three turns.
        flops = sum(8 * a * a * b + refresh * a**3 / spec.precondition_frequency for a, b in sides)
        squares = " and ".join(f"{a}x{a}" for a, _ in sides) or "no side"
        found[rows, columns] = MatrixWork(
            flops=max(1, round(flops)),
            sent_bytes=4,
            returned_bytes=4,
            reason=f"{what} ({squares}), refreshed every {spec.precondition_frequency} updates; "
            "fp32",
        )
    return found


def route_preconditioned(
    spec: PreconditionedSpec, named_shapes: Sequence[tuple[str, tuple[int, ...]]]
) -> list[Route]:
    """As Muon's routes: by the study's rules, by `default_rules`, by shape."""
    return route_parameters(
        named_shapes,
        rules=spec.routes,
        defaults=default_rules(include_router=spec.include_router),
        splits=spec.splits or (),
        default_splits=FUSED_QKV if spec.splits is None else (),
        kind=spec.kind,
    )
