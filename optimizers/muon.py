"""Muon on the matrices and AdamW on the rest, whatever holds the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from optimizers.adamw import auxiliary_adamw_options
from optimizers.buckets import Bucket
from optimizers.fragments import Fragment
from optimizers.matrices.hyperball import step_on_sphere
from optimizers.matrices.neurons import normalize_neurons
from optimizers.matrices.orthogonal import OrthogonalizingOptimizer, advance_momentum
from optimizers.matrices.qk_clip import Measured, clip_queries_and_keys
from optimizers.optimizer import Group
from optimizers.routing import FUSED_QKV, Matrix, Route, default_rules, route_parameters
from optimizers.sharing import MatrixWork, choose_computations, newton_schulz_works
from optimizers.specs import MATCHED_RMS, MuonSpec, update_scale


class Muon(OrthogonalizingOptimizer):
    """`W <- (1 - lr wd) W - lr scale(m, n) orth(U)`, with `U` the (Nesterov) momentum.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/.
    """

    def __init__(
        self,
        named_parameters: Sequence[tuple[str, Tensor]],
        *,
        routes: Sequence[Route],
        options: Mapping[str, Group],
        spec: MuonSpec,
    ) -> None:
        self.spec = spec
        self._measured: Measured | None = None
        super().__init__(
            named_parameters, routes=routes, options=options, algorithm="muon", settings=spec
        )

    def measure_by(self, measured: Measured) -> None:
        """Tell who measures attention logits, for `qk_clip`.

        Raises:
            ValueError: When none is measured, or a measured weight is not Muon's.
        """
        others = sorted(set(measured) - set(self.matrix_names))
        if others or not measured:
            raise ValueError(
                f"qk_clip scales fused weights of Muon, and {', '.join(others) or 'no weight'} is "
                "measured: route them to muon, or leave qk_clip out"
            )
        self._measured = measured

    def _update_group(self, group: Group, fragments: Sequence[Fragment]) -> None:
        super()._update_group(group, fragments)
        bound = self.spec.qk_clip
        if bound is None:
            return
        if self._measured is None:
            raise ValueError("qk_clip needs measured attention logits: call measure_by() first")
        clipped = [fragment for fragment in fragments if fragment.name in self._measured]
        clip_queries_and_keys(
            clipped,
            [self._route_of[fragment.name].shape for fragment in clipped],
            self._measured,
            bound=bound,
            workers=dist.get_world_size() if dist.is_initialized() else 1,
        )

    def _send(self, bucket: Bucket, group: Group) -> tuple[Tensor, Tensor | None]:
        """Advance the momentum; its update goes to the owners of the matrices."""
        gradient = bucket.gradient()
        skips = self.spec.starved_matrices == "skip"
        starved = bucket.is_starved(gradient) if skips else None
        update = advance_momentum(
            bucket.momentum,
            gradient,
            decay=group["momentum"],
            heavy_ball=self.spec.momentum_kind == "heavy_ball",
            nesterov=self.spec.nesterov,
        )
        return self._travelling(bucket, update), starved

    def _owner_shapes(self, matrix: Matrix) -> dict[str, tuple[int, ...]]:
        return {"second_moment": (matrix.fan_out_in[0],)} if self.spec.normuon else {}

    def _compute(self, bucket: Bucket, batch: Tensor, group: Group) -> Tensor:
        result = super()._compute(bucket, batch, group)
        if self.spec.normuon:
            result = normalize_neurons(
                result,
                bucket.owner_state("second_moment"),
                beta2=self.spec.normuon_beta2,
                rms=MATCHED_RMS if self.spec.scale == "match_rms" else None,
                neurons_are_columns=bucket.input_first,
            )
        return result

    def _apply(
        self, bucket: Bucket, weights: list[Tensor], results: list[Tensor], group: Group
    ) -> None:
        """`W <- (1 - lr wd) W - lr scale O` on all that this worker holds."""
        if self.spec.hyperball:
            step_on_sphere(bucket, weights, results, rate=group["lr"])
            return
        if not weights:
            return
        outputs, inputs = bucket.fan_out_in
        rate = group["lr"]
        if not (self.spec.normuon and self.spec.scale == "match_rms"):
            rate *= update_scale(self.spec.scale, outputs=outputs, inputs=inputs)
        torch._foreach_mul_(weights, 1.0 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, results, alpha=-rate)


def works(
    spec: MuonSpec, routes: Sequence[Route], *, device: torch.device
) -> dict[tuple[int, int], MatrixWork]:
    """Newton-Schulz, for every shape of matrix."""
    return newton_schulz_works(choose_computations(spec, routes, device=device))


def route(spec: MuonSpec, named_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> list[Route]:
    """Route by the study's rules, then by `default_rules`, then by shape."""
    return route_parameters(
        named_shapes,
        rules=spec.routes,
        defaults=default_rules(include_router=spec.include_router),
        splits=spec.splits or (),
        default_splits=FUSED_QKV if spec.splits is None else (),
        input_first=spec.input_first,
    )


def build(
    spec: MuonSpec, named_parameters: Sequence[tuple[str, Tensor]], *, routes: Sequence[Route]
) -> Muon:
    """Muon and its AdamW part in one object."""
    options: dict[str, dict[str, Any]] = auxiliary_adamw_options(spec)
    options["muon"] = {
        "lr": spec.lr,
        "weight_decay": spec.weight_decay,
        "momentum": spec.momentum,
    }
    return Muon(named_parameters, routes=routes, options=options, spec=spec)
