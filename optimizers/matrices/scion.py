"""Scion: every layer takes steps of a fixed size, in the norm that suits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from optimizers.buckets import Bucket
from optimizers.fragments import Fragment
from optimizers.matrices.orthogonal import OrthogonalizingOptimizer, advance_momentum
from optimizers.matrices.specs import ScionSpec
from optimizers.optimizer import Group
from optimizers.routing import FUSED_QKV, Route, RouteRule, route_parameters
from optimizers.sharing import MatrixWork, choose_computations, newton_schulz_works
from optimizers.specs import update_scale

_EPSILON = 1e-8  # the authors' code, beside the root mean square of a vector


class Scion(OrthogonalizingOptimizer):
    """`W <- (1 - lr) W - lr radius D(M)` (constrained), or without the `1 - lr`.

    M is the mean gradient, and D the direction of steepest descent among those of norm 1:

    - hidden matrices, in the spectral norm: `sqrt(m/n) orth(M)`, m outputs and n inputs;
    - embedding and head, in the largest row sum: `sign(M) / n`, n the last dimension;
    - vectors, in the root mean square: `M / rms(M)`.

    Source: Pethick et al. 2025, arXiv 2502.07529, algorithms 1 and 2, and the authors' code.
    Difference: weights start as the model makes them, not on the boundary of their ball.
    """

    def __init__(
        self,
        named_parameters: Sequence[tuple[str, Tensor]],
        *,
        routes: Sequence[Route],
        options: Mapping[str, Group],
        spec: ScionSpec,
    ) -> None:
        self.spec = spec
        self.state_keys = {"scion_sign": ("momentum",), "scion_vector": ("momentum",)}
        super().__init__(
            named_parameters, routes=routes, options=options, algorithm="scion", settings=spec
        )

    def _send(self, bucket: Bucket, group: Group) -> tuple[Tensor, None]:
        update = advance_momentum(
            bucket.momentum,
            bucket.gradient(),
            decay=group["momentum"],
            heavy_ball=False,
            nesterov=False,
        )
        return self._travelling(bucket, update), None

    def _apply(
        self, bucket: Bucket, weights: list[Tensor], results: list[Tensor], group: Group
    ) -> None:
        outputs, inputs = bucket.fan_out_in
        scale = update_scale("spectral", outputs=outputs, inputs=inputs)
        self._move(weights, results, group, scale)

    def _update_rest(self, group: Group, fragments: Sequence[Fragment]) -> None:
        """The sign, element by element; or vectors, by sums over whole parameters."""
        directions = [self._momentum(fragment, group) for fragment in fragments]
        weights = [fragment.weight() for fragment in fragments]
        if group["algorithm"] == "scion_vector":
            squares = torch.stack([d.float().square().sum() for d in directions])
            totals = self._totals(fragments, squares)
            numels = [self._route_of[f.name].numel for f in fragments]
            for direction, total, numel in zip(directions, totals, numels, strict=True):
                direction.div_((total / numel).sqrt() + _EPSILON)
            self._move(weights, directions, group)
            return
        for fragment, weight, direction in zip(fragments, weights, directions, strict=True):
            inputs = self._route_of[fragment.name].shape[-1]
            self._move([weight], [direction.sign_()], group, 1.0 / inputs)

    def _momentum(self, fragment: Fragment, group: Group) -> Tensor:
        """A copy of the momentum of what is held here, after this step's gradient."""
        if not fragment.numel:
            return fragment.weight().clone()
        gradient = fragment.gradient()
        momentum = self._piece_state(fragment.name, "momentum", (fragment.start, fragment.stop))
        if gradient is None:
            gradient = torch.zeros_like(momentum)
        return momentum.lerp_(gradient.to(momentum.dtype), 1.0 - group["momentum"]).clone()

    def _move(
        self, weights: list[Tensor], directions: list[Tensor], group: Group, scale: float = 1.0
    ) -> None:
        if not weights:
            return
        if self.spec.constrained:
            torch._foreach_mul_(weights, 1.0 - group["lr"])
        torch._foreach_add_(weights, directions, alpha=-group["lr"] * group["radius"] * scale)


def works(
    spec: ScionSpec, routes: Sequence[Route], *, device: torch.device
) -> dict[tuple[int, int], MatrixWork]:
    """Newton-Schulz, for every shape of hidden matrix."""
    return newton_schulz_works(choose_computations(spec, routes, device=device))


def route(spec: ScionSpec, named_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> list[Route]:
    """Matrices by their names to the sign or to the spectral norm; all else is a vector."""
    defaults = [
        RouteRule(pattern=pattern, algorithm="adamw", reason="its rows are tokens")
        for pattern in spec.sign_parameters
    ]
    found = route_parameters(
        named_shapes,
        rules=(),
        defaults=defaults,
        splits=spec.splits or (),
        default_splits=FUSED_QKV if spec.splits is None else (),
        input_first=spec.input_first,
        kind="scion",
    )
    return [one if one.algorithm == "scion" else _elementwise(one) for one in found]


def _elementwise(one: Route) -> Route:
    kind = "scion_sign" if len(one.shape) >= 2 else "scion_vector"
    return replace(one, algorithm=kind, group=kind)


def build(
    spec: ScionSpec, named_parameters: Sequence[tuple[str, Tensor]], *, routes: Sequence[Route]
) -> Scion:
    """All parts of Scion in one object."""
    radii = {
        "scion": spec.radius,
        "scion_sign": spec.sign_radius,
        "scion_vector": spec.vector_radius,
    }
    options: dict[str, dict[str, Any]] = {
        group: {"lr": spec.lr, "momentum": spec.momentum, "radius": radius}
        for group, radius in radii.items()
    }
    return Scion(named_parameters, routes=routes, options=options, spec=spec)
