"""Muon on the matrices and AdamW on the rest, whatever holds the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from optimizers.adamw import adamw_options
from optimizers.exchange import Piece, reduce_transfer
from optimizers.fragments import Fragment
from optimizers.matrix_step import MatrixStep, Wave, make_waves
from optimizers.muon_spec import MuonSpec
from optimizers.newton_schulz import Computation, choose_computation
from optimizers.optimizer import Group, NamedOptimizer
from optimizers.routing import Matrix, MatrixSplit, Route, RouteRule, route_parameters
from optimizers.sharding import Layout, Plan, Range, make_plan

# The model's Q, K and V, stacked along the rows.
FUSED_QKV = (MatrixSplit(pattern="*.qkv.weight", parts=3),)


class Muon(NamedOptimizer):
    """`W <- (1 - lr wd) W - lr scale(m, n) orth(U)`, with `U` the (Nesterov) momentum.

    Momentum is kept in float32. Matrices of equal shape are orthogonalised in one batched call,
    once an optimizer step and never once a micro-batch.
    """

    state_keys: Mapping[str, tuple[str, ...]] = {
        **NamedOptimizer.state_keys,
        "muon": ("momentum",),
    }

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
        self._plans: dict[tuple[str, ...], tuple[Plan, tuple[Wave, ...]]] = {}
        self._reduced: dict[Matrix, Tensor] | None = None
        self.computations = choose_computations(spec, self.routes, device=self._device)

    @property
    def plan(self) -> Plan:
        """Who keeps, orthogonalises and receives each matrix."""
        names = [route.name for route in self.routes if route.algorithm == "muon"]
        return self._planned(names)[0]

    def _prepare(self) -> str:
        if self._gradients == "local" and self.spec.exchange == "replicated":
            raise ValueError(
                "exchange = 'replicated' needs averaged gradients, and bind was told that they are "
                "local: average them, or use exchange = 'owner'"
            )
        self._plans.clear()
        choices = [(c.form, c.restarts, str(c.dtype)) for c in self.computations.values()]
        parts = [super()._prepare(), self.spec.model_dump_json(), repr(choices), self.plan.digest]
        return "\n".join(parts)

    def _planned(self, names: Sequence[str]) -> tuple[Plan, tuple[Wave, ...]]:
        """The plan for the parameters of one call of `step`: all of them, or a backend's part."""
        key = tuple(names)
        if key not in self._plans:
            plan = plan_muon(
                self.spec,
                [self._route_of[name] for name in names],
                computations=self.computations,
                layout=self._layout,
                workers=self._workers,
                reduces=self._gradients == "local",
            )
            waves = make_waves(plan, rank=self._rank, process_group=self._process_group)
            self._plans[key] = plan, waves
        return self._plans[key]

    def _update_matrices(self, group: Group, fragments: Sequence[Fragment]) -> None:
        plan, waves = self._planned([fragment.name for fragment in fragments])
        step = MatrixStep(
            plan=plan,
            spec=self.spec,
            computations=self.computations,
            options=group,
            fragments={fragment.name: fragment for fragment in fragments},
            gradient=lambda piece: self._gradient_piece(plan.shares[piece.index].matrix, piece),
            momentum=lambda piece: self._momentum_piece(plan.shares[piece.index].matrix, piece),
            device=self._device,
        )
        step.run(waves)
        self._counts["newton_schulz_calls"] += sum(len(wave.positions) for wave in waves)
        self._counts["bytes_sent"] += plan.bytes_sent(self._rank)
        self._counts["bytes_floor"] += round(plan.bytes_floor())

    def _gradient_piece(self, matrix: Matrix, piece: Piece) -> Tensor:
        if self._reduced is not None and matrix in self._reduced:
            return self._reduced[matrix][piece.start : piece.stop]
        fragment = self._fragments[matrix.parameter]
        gradient = fragment.gradient()
        if gradient is None:
            return torch.zeros(piece.numel, dtype=torch.float32, device=self._device)
        begin = matrix.offset + piece.start - fragment.start
        return gradient.narrow(0, begin, piece.numel).float()

    def _momentum_piece(self, matrix: Matrix, piece: Piece) -> Tensor:
        held = (matrix.offset + piece.start, matrix.offset + piece.stop)
        return self._piece_state(matrix.parameter, "momentum", held)

    def _reduce_gradients(self) -> None:
        """Average the local gradients of each matrix at its owner, summed in the order of ranks."""
        if self._gradients != "local" or self._workers == 1 or self._reduced is not None:
            return
        active = [f for group in self.param_groups for f in self._active(group)]
        on_muon = [f.name for f in active if self._route_of[f.name].algorithm == "muon"]
        plan, _ = self._planned(on_muon)
        self._reduced = {}

        def whole(piece: Piece) -> Tensor:
            return self._gradient_piece(plan.shares[piece.index].matrix, piece)

        def write(piece: Piece, out: Tensor) -> None:
            out.copy_(whole(piece))

        pending = []
        for wave in plan.waves:
            transfer = reduce_transfer(plan, wave, rank=self._rank, group=self._process_group)
            pending.append((wave, transfer.start(write, dtype=torch.float32, device=self._device)))
        for wave, arriving in pending:
            received = {(source, piece.index): x for source, piece, x in arriving.wait()}
            for index in wave:
                if plan.shares[index].owner != self._rank:
                    continue
                matrix = plan.shares[index].matrix
                received[self._rank, index] = whole(Piece(index, 0, matrix.numel))
                total = received[0, index].clone()
                for worker in range(1, self._workers):
                    total.add_(received[worker, index])
                self._reduced[matrix] = total.div_(self._workers)

    def _forget_gradients(self) -> None:
        self._reduced = None

    def _gradient_tensors(self) -> tuple[list[Tensor], list[Tensor]]:
        if self._reduced is None:
            return super()._gradient_tensors()
        everywhere = []
        for group in self.param_groups:
            if group["algorithm"] == "adamw":
                gradients = [fragment.gradient() for fragment in self._active(group)]
                everywhere += [gradient for gradient in gradients if gradient is not None]
        return everywhere, list(self._reduced.values())

    def _state_ranges(self, name: str, worker: int) -> list[Range]:
        if self._route_of[name].algorithm != "muon":
            return super()._state_ranges(name, worker)
        ranges = []
        for share in self.plan.shares:
            if share.matrix.parameter == name:
                start, stop = share.momentum[worker]
                if start < stop:
                    ranges.append((share.matrix.offset + start, share.matrix.offset + stop))
        return ranges

    def _state_like(self, name: str) -> Tensor:
        if self._route_of[name].algorithm != "muon":
            return super()._state_like(name)
        return torch.empty(0, dtype=torch.float32, device=self._device)


def choose_computations(
    spec: MuonSpec, routes: Sequence[Route], *, device: torch.device
) -> dict[tuple[int, int], Computation]:
    """Form and dtype for every shape of Muon's matrices on a device."""
    shapes = dict.fromkeys(shape for route in routes for shape in route.matrix_shapes)
    return {
        (rows, columns): choose_computation(
            rows,
            columns,
            num_steps=spec.num_steps,
            device=device,
            dtype=spec.ns_dtype,
            form=spec.ns_form,
        )
        for rows, columns in shapes
    }


def plan_muon(
    spec: MuonSpec,
    routes: Sequence[Route],
    *,
    computations: Mapping[tuple[int, int], Computation],
    layout: Layout,
    workers: int,
    reduces: bool,
) -> Plan:
    """Share Muon's matrices among workers.

    Args:
        spec: Its `exchange` decides about matrices that every worker holds whole.
        routes: The parameters to plan for; those of AdamW are passed over.
        computations: From `choose_computations`, for the costs.
        layout: What each worker holds of each parameter.
        workers: N.
        reduces: Whether gradients are local and are averaged at the owners.
    """
    return make_plan(
        [matrix for route in routes for matrix in route.matrices],
        layout=layout,
        workers=workers,
        cost=lambda matrix: computations[matrix.rows, matrix.columns].flops,
        result_bytes=lambda matrix: computations[matrix.rows, matrix.columns].dtype.itemsize,
        share_whole=reduces or spec.exchange != "replicated",
        reduces=reduces,
    )


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
        splits=spec.splits or (),
        default_splits=FUSED_QKV if spec.splits is None else (),
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
