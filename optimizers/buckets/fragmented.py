"""A range of each matrix on a worker: assembled at their owners, given back by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
import torch.distributed as dist
from torch import Tensor

from optimizers.buckets.base import Arrives, Bucket, Gang, Run, after, length, merged
from optimizers.fragments import Fragment
from optimizers.plan import BucketPlan, Plan


class FragmentBucket(Bucket):
    """A worker holds a range of each matrix, and keeps the momentum of just that range."""

    def __init__(
        self, plan: Plan, bucket: BucketPlan, fragments: Mapping[str, Fragment], gang: Gang
    ) -> None:
        super().__init__(plan, bucket, fragments, gang)
        pieces = [(s.matrix, s.weights[gang.rank]) for s in self.shares]
        self.kept = merged(
            (matrix.parameter, matrix.offset + start, matrix.offset + stop)
            for matrix, (start, stop) in pieces
        )
        # [owner] elements kept here, and [source] elements that come here: both in shares' order.
        self.to_owner = [0] * gang.workers
        for share in self.shares:
            self.to_owner[share.owner] += length(share.weights[gang.rank])
        owned = [self.shares[i] for i in self.mine]
        self.from_source = [
            sum(length(share.weights[source]) for share in owned) for source in range(gang.workers)
        ]
        # Where what arrives, source by source, lies in the flat (k, m, n) batch.
        self.places = merged(
            (
                "",
                k * self.numel + share.weights[source][0],
                k * self.numel + share.weights[source][1],
            )
            for source in range(gang.workers)
            for k, share in enumerate(owned)
        )
        self.travels = any(
            length(held)
            for share in self.shares
            for worker, held in enumerate(share.weights)
            if worker != share.owner
        )

    @cached_property
    def momentum(self) -> Tensor:
        """(elements,)."""
        return torch.zeros(sum(self.to_owner), dtype=torch.float32, device=self.gang.device)

    def momentum_runs(self) -> list[Run]:
        return self.kept

    def start_reduce(self) -> None:
        pass

    def finish_reduce(self) -> None:
        pass

    def forget(self) -> None:
        pass

    def gradient(self) -> Tensor:
        flat = self._empty(sum(self.to_owner))
        self._read(self.kept, flat)
        return flat

    def assemble(self, update: Tensor) -> Arrives:
        arrives = self._exchange(update, self.to_owner, self.from_source)

        def place() -> Tensor:
            arrived = arrives()
            batch = self._empty(len(self.mine) * self.numel, update.dtype)
            if self.places:
                sizes = [place.numel for place in self.places]
                torch._foreach_copy_(self._placed(batch), list(torch.split(arrived, sizes)))
            return batch.view(-1, *self.shape)

        return place

    def give_back(self, result: Tensor) -> Arrives:
        leaving = self._empty(sum(self.from_source), result.dtype)
        if self.places:
            sizes = [place.numel for place in self.places]
            torch._foreach_copy_(list(torch.split(leaving, sizes)), self._placed(result.flatten()))
        return self._exchange(leaving, self.from_source, self.to_owner)

    def _placed(self, flat: Tensor) -> list[Tensor]:
        return [flat.narrow(0, place.start, place.numel) for place in self.places]

    def _exchange(self, sent: Tensor, sizes: Sequence[int], arriving: Sequence[int]) -> Arrives:
        if not self.travels:
            return lambda: sent
        arrived = self._empty(sum(arriving), sent.dtype)
        work = dist.all_to_all_single(
            arrived,
            sent,
            output_split_sizes=list(arriving),
            input_split_sizes=list(sizes),
            group=self.gang.group,
            async_op=True,
        )
        return after(work, lambda: arrived, keep=sent)

    def is_starved(self, gradient: Tensor) -> Tensor:
        """A collective call: a worker sees its ranges of the gradient only."""
        fed = torch.stack([part.any() for part in torch.split(gradient, self.held())]).float()
        if self.travels:
            dist.all_reduce(fed, op=dist.ReduceOp.MAX, group=self.gang.group)
        return (fed[self.mine] == 0).view(-1, 1, 1)

    def held(self) -> list[int]:
        return [length(share.weights[self.gang.rank]) for share in self.shares]

    def total(self, partial: Tensor) -> Tensor:
        if self.gang.workers > 1:
            dist.all_reduce(partial, group=self.gang.group)
        return partial

    def weights(self) -> list[Tensor]:
        return self._weights(self.kept)
