"""Muon: momentum, orthogonalised by Newton-Schulz, on the matrices; AdamW on the rest."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from optimizers.adamw import adamw_options
from optimizers.coefficients import SCHEDULES, find_schedule
from optimizers.newton_schulz import (
    Computation,
    DtypeChoice,
    FormChoice,
    choose_computation,
    orthogonalize,
)
from optimizers.optimizer import Fragment, Group, NamedOptimizer
from optimizers.routing import Matrix, MatrixSplit, Route, RouteRule, route_parameters
from optimizers.spec import OptimizerSpec

Scale = Literal["original", "match_rms", "spectral", "none"]

# The seed study runs its auxiliary AdamW at a tenth of Muon's rate.
_AUXILIARY_LR_RATIO = 0.1


class MuonSpec(OptimizerSpec):
    """Muon (Jordan 2024) for matrices, AdamW for embeddings, head, norms, biases and the router."""

    kind: Literal["muon"] = "muon"
    momentum: float = Field(default=0.95, ge=0.0, lt=1.0, description="Decay mu of the momentum.")
    momentum_kind: Literal["ema", "heavy_ball"] = Field(
        default="ema",
        description="ema: M <- mu M + (1 - mu) G. heavy_ball: M <- mu M + G (the same direction).",
    )
    nesterov: bool = Field(
        default=True, description="Orthogonalise mu M + (1 - mu) G instead of the momentum M."
    )
    num_steps: int = Field(default=5, ge=1, le=50, description="Newton-Schulz steps.")
    schedule: str = Field(
        default="jordan", description=f"Newton-Schulz coefficients: {', '.join(SCHEDULES)}."
    )
    scale: Scale = Field(
        default="original",
        description="Factor on an (m, n) update: original sqrt(max(1, m/n)), match_rms "
        "0.2 sqrt(max(m, n)), spectral sqrt(m/n), none 1.",
    )
    weight_decay: float = Field(
        default=0.1,
        ge=0.0,
        description="Decoupled decay of the matrices per unit of learning rate.",
    )
    ns_dtype: DtypeChoice = Field(
        default="auto", description="Dtype of the Newton-Schulz products; auto asks the hardware."
    )
    ns_form: FormChoice = Field(
        default="auto", description="Form of the iteration; auto takes the fewest operations."
    )
    batch_invariant: bool = Field(
        default=False,
        description="Orthogonalise matrices one by one: the same bits under any sharding, slow.",
    )
    include_router: bool = Field(default=False, description="Give the MoE router to Muon as well.")
    routes: tuple[RouteRule, ...] = Field(
        default=(), description="Rules tried before the default ones; each must match something."
    )
    splits: tuple[MatrixSplit, ...] = Field(
        default=(), description="Fused weights that are several matrices (QKV, heads)."
    )
    input_first: tuple[str, ...] = Field(
        default=("*.experts.*",),
        description="Patterns of weights stored as (inputs, outputs): the scale by shape takes "
        "m = outputs and n = inputs for every weight.",
    )
    exchange: Literal["auto", "replicated", "owner"] = Field(
        default="auto",
        description="How workers share the work when each holds whole matrices: replicated (each "
        "computes all), owner (each computes its share), auto.",
    )
    aux_lr: float | None = Field(
        default=None,
        gt=0.0,
        description="Learning rate of the AdamW part; default a tenth of lr, as in the seed study.",
    )
    aux_beta1: float = Field(default=0.9, ge=0.0, lt=1.0, description="AdamW part: beta1.")
    aux_beta2: float = Field(default=0.95, ge=0.0, lt=1.0, description="AdamW part: beta2.")
    aux_epsilon: float = Field(default=1e-8, gt=0.0, description="AdamW part: epsilon.")
    aux_weight_decay: float = Field(
        default=0.1, ge=0.0, description="AdamW part: decoupled weight decay of its matrices."
    )

    @model_validator(mode="after")
    def _schedule_is_long_enough(self) -> MuonSpec:
        find_schedule(self.schedule).steps(self.num_steps)
        return self

    @property
    def auxiliary_lr(self) -> float:
        """The AdamW part's learning rate, with the default resolved."""
        return self.lr * _AUXILIARY_LR_RATIO if self.aux_lr is None else self.aux_lr


def update_scale(scale: Scale, *, outputs: int, inputs: int) -> float:
    """The factor on the orthogonalised update of a weight with `m` outputs and `n` inputs.

    `original` (Jordan 2024), `match_rms` (Moonshot, arXiv 2502.16982: AdamW's root mean square of
    about 0.2), `spectral` (Bernstein 2025), `none`.
    """
    if scale == "original":
        return math.sqrt(max(1.0, outputs / inputs))
    if scale == "match_rms":
        return 0.2 * math.sqrt(max(outputs, inputs))
    if scale == "spectral":
        return math.sqrt(outputs / inputs)
    return 1.0


class Muon(NamedOptimizer):
    """`W <- (1 - lr wd) W - lr scale(m, n) orth(U)`, with `U` the (Nesterov) momentum.

    Momentum is kept in float32. Matrices of equal shape are orthogonalised in one batched call,
    once an optimizer step.
    """

    def __init__(
        self,
        named_parameters: Sequence[tuple[str, Tensor]],
        *,
        routes: Sequence[Route],
        options: Mapping[str, Group],
        spec: MuonSpec,
    ) -> None:
        super().__init__(named_parameters, routes=routes, options=options)
        self.spec = spec
        self._matrices = {route.name: route.matrices for route in routes}
        self.computations: dict[tuple[int, int], Computation] = {}

    def _update_matrices(
        self,
        group: Group,
        fragments: Sequence[Fragment],
        gradients: Mapping[str, Tensor | None],
    ) -> None:
        updates = {
            fragment.name: self._momentum_update(group, fragment, gradients[fragment.name])
            for fragment in fragments
        }
        for fragment in fragments:
            fragment.weight().mul_(1.0 - group["lr"] * group["weight_decay"])
        weights = {fragment.name: fragment.weight() for fragment in fragments}
        for (rows, columns), matrices in self._batches(fragments).items():
            batch = torch.stack([_part(updates[m.parameter], m) for m in matrices])
            result = self._orthogonalize(batch.view(-1, rows, columns))
            for matrix, orthogonal in zip(matrices, result.flatten(1), strict=True):
                outputs, inputs = matrix.fan_out_in
                scale = update_scale(self.spec.scale, outputs=outputs, inputs=inputs)
                step = -group["lr"] * scale
                _part(weights[matrix.parameter], matrix).add_(orthogonal, alpha=step)
        self.counters["newton_schulz_steps"] += 1

    def _momentum_update(self, group: Group, fragment: Fragment, gradient: Tensor | None) -> Tensor:
        """Advance the momentum of a fragment and return what will be orthogonalised, in float32."""
        entry = self._state.setdefault(fragment.name, {})
        if "momentum" not in entry:
            entry["momentum"] = torch.zeros_like(fragment.weight(), dtype=torch.float32)
        momentum, mu = entry["momentum"], group["momentum"]
        raw = torch.zeros_like(momentum) if gradient is None else gradient.float()
        if self.spec.momentum_kind == "ema":
            momentum.lerp_(raw, 1.0 - mu)
            return raw.lerp(momentum, mu) if self.spec.nesterov else momentum
        momentum.mul_(mu).add_(raw)
        return raw.add(momentum, alpha=mu) if self.spec.nesterov else momentum

    def _batches(self, fragments: Sequence[Fragment]) -> dict[tuple[int, int], list[Matrix]]:
        """Matrices of equal shape, in the order of the model."""
        batches: dict[tuple[int, int], list[Matrix]] = defaultdict(list)
        for fragment in fragments:
            for matrix in self._matrices[fragment.name]:
                batches[matrix.rows, matrix.columns].append(matrix)
        return batches

    def _orthogonalize(self, batch: Tensor) -> Tensor:
        """`batch` (K, m, n) -> (K, m, n)."""
        count, rows, columns = batch.shape
        if (rows, columns) not in self.computations:
            self.computations[rows, columns] = choose_computation(
                rows,
                columns,
                num_steps=self.spec.num_steps,
                device=batch.device,
                dtype=self.spec.ns_dtype,
                form=self.spec.ns_form,
            )
        computation = self.computations[rows, columns]
        self.counters["newton_schulz_calls"] += count
        return orthogonalize(
            batch,
            self.spec.schedule,
            self.spec.num_steps,
            dtype=computation.dtype,
            form=computation.form,
            batch_invariant=self.spec.batch_invariant,
        )


def _part(flat: Tensor, matrix: Matrix) -> Tensor:
    return flat.narrow(0, matrix.offset, matrix.numel)


def default_rules(*, include_router: bool) -> tuple[RouteRule, ...]:
    """What goes to AdamW by name; vectors and scalars go there by shape."""
    rules = [
        ("*embedding*", "an embedding: each row is looked up, not multiplied"),
        ("*embed_tokens*", "an embedding: each row is looked up, not multiplied"),
        ("head.*", "the head: its rows are tokens"),
        ("*.head.*", "the head: its rows are tokens"),
        ("*lm_head*", "the head: its rows are tokens"),
        ("*norm*", "a norm"),
        ("*bias", "a bias"),
    ]
    if not include_router:
        rules.append(("*router*", "the router: small, and its rows are experts"))
    return tuple(RouteRule(pattern=p, algorithm="adamw", reason=why) for p, why in rules)


def route(spec: MuonSpec, named_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> list[Route]:
    """Route by the study's rules, then by `default_rules`, then by shape."""
    return route_parameters(
        named_shapes,
        rules=spec.routes,
        defaults=default_rules(include_router=spec.include_router),
        splits=spec.splits,
        input_first=spec.input_first,
    )


def build(
    spec: MuonSpec, named_parameters: Sequence[tuple[str, Tensor]], *, routes: Sequence[Route]
) -> Muon:
    """Muon and its AdamW part in one object."""
    options: dict[str, dict[str, Any]] = adamw_options(
        lr=spec.auxiliary_lr,
        weight_decay=spec.aux_weight_decay,
        beta1=spec.aux_beta1,
        beta2=spec.aux_beta2,
        epsilon=spec.aux_epsilon,
    )
    options["muon"] = {
        "lr": spec.lr,
        "weight_decay": spec.weight_decay,
        "momentum": spec.momentum,
    }
    return Muon(named_parameters, routes=routes, options=options, spec=spec)
