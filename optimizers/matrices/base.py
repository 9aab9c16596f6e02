"""What every optimizer of whole matrices has: owners, buckets, the exchange, state by name.

A step of the matrices has three phases, bucket by bucket (`buckets` moves, the optimizer computes):

    reduce     local gradients are averaged at the owners, during the backward pass if asked
    compute    what leaves the keepers is assembled at the owner, which sees whole matrices
    apply      the results go to whoever holds the weights, and move them

While one bucket is computed the next one's matrices and the last one's results travel.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from optimizers.buckets import Arrives, Bucket, Gang, make_buckets
from optimizers.fragments import Fragment, agree_on_nodes
from optimizers.optimizer import Group, NamedOptimizer
from optimizers.plan import EVERYONE, Plan, Range
from optimizers.reduction import Reduction
from optimizers.routing import Matrix, Route
from optimizers.sharing import MatrixWork, plan_matrices

Shape = tuple[int, ...]


class SharedSpec(Protocol):
    """What the specification of such an optimizer has."""

    @property
    def exchange(self) -> str: ...
    @property
    def batch_invariant(self) -> bool: ...
    def model_dump_json(self) -> str: ...


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


@dataclass(eq=False)
class Sent:
    """A bucket on its way to its owners.

    Args:
        arrives: Waits for `(k, m, n)`, the matrices owned here.
        still: `(k, 1, 1)` bool, the matrices that are not to be moved; None where all are.
    """

    arrives: Arrives
    still: Tensor | None = field(default=None)


class MatrixOptimizer(NamedOptimizer):
    """An optimizer that must see whole matrices, on whatever part of them a worker holds.

    A subclass says what leaves the worker that keeps the gradient (`_send`), what the owner makes
    of whole matrices (`_compute`), and how the result moves the weights (`_apply`). Matrices of
    equal shape come in one batch, once an optimizer step and never once a micro-batch.

    State is of two kinds. What is kept beside the gradient lies in `bucket.momentum`, in the
    parameter's shape. What belongs to the owner has a shape of its own, named by `_owner_shapes`,
    and stands in `bucket.owner_state(key)`: it never travels, except into a checkpoint.

    Args:
        algorithm: The word of the routes whose matrices are shared.
        spec: The specification, with its `exchange`.
        works: For each shape of a matrix, what its owner does and what travels.
    """

    kept_state: ClassVar[tuple[str, ...]] = ()
    """The state kept beside the gradient: `("momentum",)` or nothing."""

    def __init__(
        self,
        named_parameters: Sequence[tuple[str, Tensor]],
        *,
        routes: Sequence[Route],
        options: Mapping[str, Group],
        algorithm: str,
        spec: SharedSpec,
    ) -> None:
        super().__init__(named_parameters, routes=routes, options=options)
        self.algorithm = algorithm
        self._shared: SharedSpec = spec
        self.works = self._works()
        owned = tuple(self._owner_shapes(Matrix("", 0, 0, 1, 1)))
        self.state_keys = {**self.state_keys, algorithm: (*self.kept_state, *owned)}
        self._reduction: Reduction | None = None
        self._planned: list[Part] | None = None
        self._ranges: dict[tuple[str, str], list[list[Range]]] = {}

    # What a subclass adds.

    @abstractmethod
    def _works(self) -> Mapping[tuple[int, int], MatrixWork]:
        """For each `(m, n)` of `self.routes`, what the owner does."""

    @abstractmethod
    def _send(self, bucket: Bucket, group: Group) -> tuple[Tensor, Tensor | None]:
        """What leaves this worker, shaped as the gradient, and which matrices are to stand still.

        The second is `(k, 1, 1)`, true for matrices owned here that keep their weights, or None.
        """

    @abstractmethod
    def _compute(self, bucket: Bucket, batch: Tensor, group: Group) -> Tensor:
        """`(k, m, n)` at their owner -> `(k, m, n)`, what `_apply` is to get."""

    @abstractmethod
    def _apply(
        self, bucket: Bucket, weights: list[Tensor], results: list[Tensor], group: Group
    ) -> None:
        """Move the weights that this worker holds; both lists are flat and of equal sizes."""

    def _owner_shapes(self, matrix: Matrix) -> dict[str, Shape]:
        """The state that a matrix's owner keeps of it, in float32: key -> shape; keys for all."""
        return {}

    def _update_rest(self, group: Group, fragments: Sequence[Fragment]) -> None:
        """Update a group that is neither AdamW's nor of matrices."""
        raise AssertionError(f"{type(self).__name__} has no algorithm {group['algorithm']!r}")

    @property
    def _choices(self) -> str:
        """What else of the computation all workers must agree on."""
        return repr(sorted((shape, work.reason) for shape, work in self.works.items()))

    # One step.

    def _update_group(self, group: Group, fragments: Sequence[Fragment]) -> None:
        """The second and third phase; the first one is `_reduce_gradients`."""
        if group["algorithm"] != self.algorithm:
            self._update_rest(group, fragments)
            return
        stepped = {fragment.name for fragment in fragments}
        for part in self._parts:
            if part.parameters <= stepped:
                self._step(part.buckets, group)
                for counter, bytes_ in part.sent.items():
                    self._counts[counter] += bytes_

    def _step(self, buckets: Sequence[Bucket], group: Group) -> None:
        sent = self._send_bucket(buckets[0], group)
        returning = None
        for bucket, following in zip(buckets, (*buckets[1:], None), strict=True):
            still, batch = sent.still, sent.arrives()
            if following is not None:
                sent = self._send_bucket(following, group)
            result = self._compute(bucket, batch, group)
            if still is not None:
                result = result.masked_fill(still, 0.0)
            sent_back = bucket, bucket.give_back(result)
            if returning is not None:
                self._take_back(*returning, group)
            returning = sent_back
        assert returning is not None, "a group has at least one matrix"
        self._take_back(*returning, group)

    def _send_bucket(self, bucket: Bucket, group: Group) -> Sent:
        leaving, still = self._send(bucket, group)
        return Sent(bucket.assemble(leaving), still)

    def _take_back(self, bucket: Bucket, arrives: Arrives, group: Group) -> None:
        weights, arrived = bucket.weights(), arrives()
        results = list(torch.split(arrived, [weight.numel() for weight in weights]))
        self._apply(bucket, weights, results if weights else [], group)

    def _update_number(self, bucket: Bucket) -> int:
        """The number of this update of the bucket's parameters, from 1."""
        return self._updates[bucket.parameters[0]]

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
            if group["algorithm"] != self.algorithm:
                gradients = [fragment.gradient() for fragment in self._active(group)]
                everywhere += [gradient for gradient in gradients if gradient is not None]
        return everywhere, [bucket.gradient() for bucket in self._buckets if bucket.mine]

    # What is planned when the optimizer is bound.

    @property
    def exchange(self) -> str:
        """As the specification says: replicated, owner, node or auto."""
        return self._shared.exchange

    @property
    def matrix_names(self) -> list[str]:
        """The parameters whose matrices are shared, in the order of the model."""
        return [route.name for route in self.routes if route.algorithm == self.algorithm]

    def _prepare(self) -> str:
        if self._gradients == "local" and self._shared.exchange == "replicated":
            raise ValueError(
                "exchange = 'replicated' needs averaged gradients, and bind was told that they are "
                "local: average them, or use exchange = 'owner'"
            )
        self._planned, self._ranges = None, {}
        if self._reduction is not None:
            self._reduction.close()
        self._reduction = None
        if self._gradients == "local" and self._workers > 1:
            awaited = {
                n: self._fragments[n].storage for part in self._parts for n in part.parameters
            }
            self._reduction = Reduction(self._buckets, awaited)
        digests = [plan.digest for plan in self.plans]
        return repr([super()._prepare(), self._shared.model_dump_json(), self._choices, digests])

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
        buckets = make_buckets(plan, self._fragments, gang)
        for bucket in buckets:
            bucket.owner_shapes = self._owner_shapes(bucket.shares[0].matrix)
        return Part(names, plan, buckets, sent)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """Who keeps, computes and receives each matrix: a plan for each call of `step`."""
        return tuple(part.plan for part in self._parts)

    @property
    def _buckets(self) -> list[Bucket]:
        return [bucket for part in self._parts for bucket in part.buckets]

    def _stepped_together(self) -> list[list[str]]:
        """The matrices of each call of `step`: all, or those that lie in one flat tensor."""
        if not self._is_flat:
            return [self.matrix_names]
        together: dict[int, list[str]] = {}
        for name in self.matrix_names:
            together.setdefault(id(self._fragments[name].storage), []).append(name)
        return list(together.values())

    def _plan(self, names: Sequence[str], nodes: Sequence[int]) -> Plan:
        return plan_matrices(
            [self._route_of[name] for name in names],
            works=self.works,
            exchange=self._shared.exchange,
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
            by_all_to_all=is_gloo or self._shared.batch_invariant,
        )

    # State by name, for checkpoints: views of the buckets.

    def _is_shared(self, name: str) -> bool:
        return self._route_of[name].algorithm == self.algorithm

    def _owner_offsets(self, name: str, key: str) -> list[Range]:
        """Where the state of each matrix lies in the parameter's flat state."""
        offsets, position = [], 0
        for matrix in self._route_of[name].matrices:
            numel = math.prod(self._owner_shapes(matrix)[key])
            offsets.append((position, position + numel))
            position += numel
        return offsets

    def _state_shape(self, name: str, key: str) -> Shape:
        """That of the parameter; of an owner's state `(K, *shape)`, flat where the K differ."""
        if not self._is_shared(name) or key in self.kept_state:
            return super()._state_shape(name, key)
        matrices = self._route_of[name].matrices
        shapes = [self._owner_shapes(matrix)[key] for matrix in matrices]
        if shapes == [(matrix.rows, matrix.columns) for matrix in matrices]:
            return super()._state_shape(name, key)
        if len(set(shapes)) == 1:
            return (len(shapes), *shapes[0])
        return (sum(math.prod(shape) for shape in shapes),)

    def _pieces(self, name: str, key: str) -> Mapping[Range, Tensor]:
        if not self._is_shared(name):
            return super()._pieces(name, key)
        buckets = [bucket for bucket in self._buckets if name in bucket.parameters]
        if key in self.kept_state:
            return {
                (run.start, run.stop): bucket.momentum.view(-1).narrow(0, run.position, run.numel)
                for bucket in buckets
                for run in bucket.momentum_runs()
                if run.parameter == name
            }
        offsets = self._owner_offsets(name, key)
        return {
            offsets[bucket.shares[i].matrix.index]: bucket.owner_state(key)[k].view(-1)
            for bucket in buckets
            for k, i in enumerate(bucket.mine)
            if bucket.shares[i].matrix.parameter == name
        }

    def _state_ranges(self, name: str, key: str, worker: int) -> list[Range]:
        if not self._is_shared(name):
            return super()._state_ranges(name, key, worker)
        if (name, key) not in self._ranges:
            self._ranges[name, key] = self._ranges_of_all(name, key)
        return self._ranges[name, key][worker]

    def _ranges_of_all(self, name: str, key: str) -> list[list[Range]]:
        """For each worker, the ranges of a flat state that it keeps."""
        kept: list[list[Range]] = [[] for _ in range(self._workers)]
        plans = [part.plan for part in self._parts if name in part.parameters]
        for share in (s for plan in plans for s in plan.shares if s.matrix.parameter == name):
            if key in self.kept_state:
                offset, held = share.matrix.offset, share.momentum
            else:
                offset, stop = self._owner_offsets(name, key)[share.matrix.index]
                held = tuple(
                    (0, stop - offset if share.owner in (w, EVERYONE) else 0)
                    for w in range(self._workers)
                )
            for ranges, (begin, end) in zip(kept, held, strict=True):
                if begin < end:
                    ranges.append((offset + begin, offset + end))
        return kept

    def _state_dtype(self, name: str) -> torch.dtype:
        return torch.float32 if self._is_shared(name) else super()._state_dtype(name)
