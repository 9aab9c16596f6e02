"""Muon on the matrices and AdamW on the rest, whatever holds the weights.

A step of the matrices has three phases, bucket by bucket (`buckets` moves, this file computes):

    reduce           local gradients are averaged at the owners, during the backward pass if asked
    orthogonalise    momentum -> (Nesterov) update -> assembled at the owner -> Newton-Schulz
    apply            the results go to whoever holds the weights, and move them

While one bucket is orthogonalised the next one's momentum and the last one's results travel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from optimizers.adamw import adamw_options
from optimizers.buckets import Arrives, Bucket, Gang, make_buckets
from optimizers.fragments import Fragment, agree_on_nodes
from optimizers.newton_schulz import orthogonalize
from optimizers.optimizer import Group, NamedOptimizer
from optimizers.plan import Plan, Range
from optimizers.reduction import Reduction
from optimizers.routing import FUSED_QKV, Route, default_rules, route_parameters
from optimizers.sharing import choose_computations, plan_muon, travel_dtype
from optimizers.specs import MuonSpec, update_scale


@dataclass(frozen=True)
class Part:
    """What one call of `step` works on.

    Args:
        parameters: Their names.
        plan: Who does what.
        buckets: In the order of the plan.
        sent: What a step adds to the counters of bytes.
    """

    parameters: frozenset[str]
    plan: Plan
    buckets: tuple[Bucket, ...]
    sent: Mapping[str, int]


class Muon(NamedOptimizer):
    """`W <- (1 - lr wd) W - lr scale(m, n) orth(U)`, with `U` the (Nesterov) momentum.

    Momentum is kept in float32. It is rounded to the dtype of Newton-Schulz when it leaves the
    worker that keeps it, or would leave it: so the arithmetic is the same whoever holds what.
    Matrices of equal shape are orthogonalised in one batched call, once an optimizer step and never
    once a micro-batch.
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
        self.computations = choose_computations(spec, self.routes, device=self._device)
        self._reduction: Reduction | None = None
        self._planned: list[Part] | None = None
        self._momentum_ranges: dict[str, list[list[Range]]] | None = None

    # One step.

    def _update_group(self, group: Group, fragments: Sequence[Fragment]) -> None:
        """The second and third phase; the first one is `_reduce_gradients`."""
        stepped = {fragment.name for fragment in fragments}
        for part in self._parts:
            if part.parameters <= stepped:
                self._step(part.buckets, group)
                for counter, bytes_ in part.sent.items():
                    self._counts[counter] += bytes_

    def _step(self, buckets: Sequence[Bucket], group: Group) -> None:
        sent_update = self._send_update(buckets[0], group)
        returning = None
        for bucket, following in zip(buckets, (*buckets[1:], None), strict=True):
            arrives, starved = sent_update
            batch = arrives()
            if following is not None:
                sent_update = self._send_update(following, group)
            result = self._orthogonalize(bucket, batch)
            if starved is not None:
                result = result.masked_fill(starved, 0.0)
            sent_back = bucket, bucket.give_back(result)
            if returning is not None:
                self._apply(*returning, group)
            returning = sent_back
        assert returning is not None, "a group has at least one matrix"
        self._apply(*returning, group)

    def _send_update(self, bucket: Bucket, group: Group) -> tuple[Arrives, Tensor | None]:
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
        travelling = travel_dtype(self.computations[bucket.shape].dtype)
        return bucket.assemble(update.to(travelling)), starved

    def _orthogonalize(self, bucket: Bucket, batch: Tensor) -> Tensor:
        """`(k, m, n)` at their owner -> the same, orthogonalised."""
        self._counts["newton_schulz_calls"] += len(batch)
        computation = self.computations[bucket.shape]
        return orthogonalize(
            batch,
            self.spec.schedule,
            self.spec.num_steps,
            dtype=computation.dtype,
            form=computation.form,
            batch_invariant=self.spec.batch_invariant,
        )

    def _apply(self, bucket: Bucket, arrives: Arrives, group: Group) -> None:
        """`W <- (1 - lr wd) W - lr scale O` on all that this worker holds."""
        weights = bucket.weights()
        if not weights:
            arrives()
            return
        outputs, inputs = bucket.fan_out_in
        rate = group["lr"] * update_scale(self.spec.scale, outputs=outputs, inputs=inputs)
        results = torch.split(arrives(), [weight.numel() for weight in weights])
        torch._foreach_mul_(weights, 1.0 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, list(results), alpha=-rate)

    # The first phase: local gradients to the owners.

    def reduce_during_backward(self) -> None:
        """Start each bucket's reduction as soon as the coming backward pass has its gradients.

        For the backend, before the backward pass of the last micro-batch. Without it, or where
        gradients are averaged already, nothing happens before the step.
        """
        if self._reduction is not None:
            self._reduction.during_backward()

    def _reduce_gradients(self) -> None:
        if self._reduction is not None:
            self._reduction.finish()

    def _forget_gradients(self) -> None:
        for bucket in self._buckets:
            bucket.forget()

    def _gradient_tensors(self) -> tuple[list[Tensor], list[Tensor]]:
        if self._reduction is None:
            return super()._gradient_tensors()
        everywhere = []
        for group in self.param_groups:
            if group["algorithm"] == "adamw":
                gradients = [fragment.gradient() for fragment in self._active(group)]
                everywhere += [gradient for gradient in gradients if gradient is not None]
        return everywhere, [bucket.gradient() for bucket in self._buckets if bucket.mine]

    # What is planned when the optimizer is bound.

    def _prepare(self) -> str:
        if self._gradients == "local" and self.spec.exchange == "replicated":
            raise ValueError(
                "exchange = 'replicated' needs averaged gradients, and bind was told that they are "
                "local: average them, or use exchange = 'owner'"
            )
        self._planned, self._momentum_ranges = None, None
        if self._reduction is not None:
            self._reduction.close()
        self._reduction = None
        if self._gradients == "local" and self._workers > 1:
            awaited = {
                n: self._fragments[n].storage for part in self._parts for n in part.parameters
            }
            self._reduction = Reduction(self._buckets, awaited)
        choices = [(c.form, c.restarts, str(c.dtype)) for c in self.computations.values()]
        digests = [plan.digest for plan in self.plans]
        return repr([super()._prepare(), self.spec.model_dump_json(), choices, digests])

    @property
    def _parts(self) -> list[Part]:
        """What each call of `step` works on; planned when first needed after `bind`."""
        if self._planned is None:
            nodes = agree_on_nodes(
                group=self._process_group, workers=self._workers, device=self._device
            )
            gang = self._gang()
            plans = [self._plan(names, nodes) for names in self._stepped_together()]
            self._planned = [self._part(plan, gang) for plan in plans if plan.shares]
        return self._planned

    def _part(self, plan: Plan, gang: Gang) -> Part:
        traffic = plan.traffic(self._rank)
        sent = {
            "bytes_sent": traffic.total,
            "bytes_between_nodes": traffic.between_nodes,
            "bytes_floor": round(plan.bytes_floor()),
        }
        names = frozenset(share.matrix.parameter for share in plan.shares)
        return Part(names, plan, make_buckets(plan, self._fragments, gang), sent)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """Who keeps, orthogonalises and receives each matrix: a plan for each call of `step`."""
        return tuple(part.plan for part in self._parts)

    @property
    def _buckets(self) -> list[Bucket]:
        return [bucket for part in self._parts for bucket in part.buckets]

    def _stepped_together(self) -> list[list[str]]:
        """The matrices of each call of `step`: all, or those that lie in one flat tensor."""
        names = [route.name for route in self.routes if route.algorithm == "muon"]
        if not self._is_flat:
            return [names]
        together: dict[int, list[str]] = {}
        for name in names:
            together.setdefault(id(self._fragments[name].storage), []).append(name)
        return list(together.values())

    def _plan(self, names: Sequence[str], nodes: Sequence[int]) -> Plan:
        return plan_muon(
            self.spec,
            [self._route_of[name] for name in names],
            computations=self.computations,
            layout=self._layout,
            workers=self._workers,
            reduces=self._gradients == "local",
            nodes=nodes,
        )

    def _gang(self) -> Gang:
        is_gloo = self._workers > 1 and dist.get_backend(self._process_group) == "gloo"
        return Gang(
            rank=self._rank,
            workers=self._workers,
            group=self._process_group,
            device=self._device,
            # Gloo has neither reduce-scatter nor a fast all-gather: see docs/performance.md.
            by_all_to_all=is_gloo or self.spec.batch_invariant,
        )

    # Momentum by name, for checkpoints: views of the buckets.

    def _pieces(self, name: str, key: str) -> Mapping[Range, Tensor]:
        if self._route_of[name].algorithm != "muon":
            return super()._pieces(name, key)
        return {
            (run.start, run.stop): bucket.momentum.view(-1).narrow(0, run.position, run.numel)
            for bucket in self._buckets
            if name in bucket.parameters
            for run in bucket.momentum_runs()
            if run.parameter == name
        }

    def _state_ranges(self, name: str, worker: int) -> list[Range]:
        if self._route_of[name].algorithm != "muon":
            return super()._state_ranges(name, worker)
        if self._momentum_ranges is None:
            self._momentum_ranges = {}
            for share in (share for plan in self.plans for share in plan.shares):
                ranges = self._momentum_ranges.setdefault(
                    share.matrix.parameter, [[] for _ in range(self._workers)]
                )
                offset = share.matrix.offset
                for kept, (start, stop) in zip(ranges, share.momentum, strict=True):
                    if start < stop:
                        kept.append((offset + start, offset + stop))
        return self._momentum_ranges[name][worker]

    def _state_dtype(self, name: str) -> torch.dtype:
        is_muons = self._route_of[name].algorithm == "muon"
        return torch.float32 if is_muons else super()._state_dtype(name)


def advance_momentum(
    momentum: Tensor, gradient: Tensor, *, decay: float, heavy_ball: bool, nesterov: bool
) -> Tensor:
    """One step of the momentum, in place, and the update to orthogonalise.

    `M <- mu M + (1 - mu) G` (heavy ball: `mu M + G`), then `U = mu M + (1 - mu) G` with Nesterov
    (heavy ball: `mu M + G`), else `U = M`.

    Args:
        momentum: M, of any shape, float32.
        gradient: G, of the same shape; it becomes U with Nesterov.
        decay: mu.

    Returns:
        U: the tensor that was the gradient, or the momentum itself.
    """
    if heavy_ball:
        momentum.mul_(decay).add_(gradient)
        return gradient.add_(momentum, alpha=decay) if nesterov else momentum
    momentum.lerp_(gradient, 1.0 - decay)
    return gradient.lerp_(momentum, decay) if nesterov else momentum


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
