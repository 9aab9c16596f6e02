"""Whole matrices on every worker: reduced to their owners, gathered from them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
import torch.distributed as dist
from torch import Tensor

from optimizers.buckets.base import Arrives, Bucket, Gang, Run, after
from optimizers.fragments import Fragment
from optimizers.plan import BucketPlan, Plan


class WholeBucket(Bucket):
    """Every worker has all K matrices; this one owns k of them, or all when nobody shares."""

    def __init__(
        self, plan: Plan, bucket: BucketPlan, fragments: Mapping[str, Fragment], gang: Gang
    ) -> None:
        super().__init__(plan, bucket, fragments, gang)
        self.all_runs = self._stacked(range(len(self.shares)))
        self.own_runs = self._stacked(self.mine)
        owners = [share.owner for share in self.shares]
        self.owned = [owners.count(worker) for worker in range(gang.workers)]
        self.reduces = plan.reduces and bucket.exchange != "none"
        self.by_all_to_all = gang.by_all_to_all or bucket.exchange == "all_to_all"
        self._arriving: Arrives | None = None
        self._reduced: Tensor | None = None

    @cached_property
    def momentum(self) -> Tensor:
        """(k, m, n)."""
        shape = (len(self.mine), *self.shape)
        return torch.zeros(shape, dtype=torch.float32, device=self.gang.device)

    def momentum_runs(self) -> list[Run]:
        return self.own_runs

    def start_reduce(self) -> None:
        """The local gradients leave their parameters, which need them no more."""
        if not self.reduces or self._arriving is not None or self._reduced is not None:
            return
        local = self._empty(len(self.shares) * self.numel)
        self._read(self.all_runs, local)
        for name in self.parameters:
            self._release(name)
        reduce = self._add_in_rank_order if self.by_all_to_all else self._reduce_scatter
        self._arriving = reduce(local)

    def _release(self, name: str) -> None:
        """Once its last matrix is in a bucket, a parameter's local gradient is dropped."""
        wanted = [share for share in self.plan.shares if share.matrix.parameter == name]
        here = [share for share in self.shares if share.matrix.parameter == name]
        if len(wanted) == len(here):
            self.fragments[name].storage.grad = None

    def _reduce_scatter(self, local: Tensor) -> Arrives:
        averaged = self._empty(len(self.mine) * self.numel)
        work = dist.reduce_scatter_single(
            averaged, local, op=dist.ReduceOp.AVG, group=self.gang.group, async_op=True
        )
        return after(work, lambda: averaged, keep=local)

    def _add_in_rank_order(self, local: Tensor) -> Arrives:
        """Everyone's gradients at the owner, added there: the same bits under any collective."""
        workers, own = self.gang.workers, len(self.mine) * self.numel
        arrived = self._empty(workers * own)
        work = dist.all_to_all_single(
            arrived,
            local,
            output_split_sizes=[own] * workers,
            input_split_sizes=[count * self.numel for count in self.owned],
            group=self.gang.group,
            async_op=True,
        )

        def average() -> Tensor:
            total, *others = torch.split(arrived, own) if own else [arrived]
            for other in others:
                total.add_(other)
            return total.div_(workers).clone()  # not a view that keeps everyone's alive

        return after(work, average, keep=local)

    def finish_reduce(self) -> None:
        if self._arriving is not None:
            self._reduced = self._arriving().view(-1, *self.shape)
            self._arriving = None

    def gradient(self) -> Tensor:
        """(k, m, n)."""
        if self._reduced is not None:
            return self._reduced
        stacked = self._empty(len(self.mine) * self.numel)
        self._read(self.own_runs, stacked)
        return stacked.view(-1, *self.shape)

    def forget(self) -> None:
        self._reduced = None

    def assemble(self, update: Tensor) -> Arrives:
        return lambda: update

    def is_starved(self, gradient: Tensor) -> Tensor:
        return ~gradient.flatten(1).any(1).view(-1, 1, 1)

    def give_back(self, result: Tensor) -> Arrives:
        if self.bucket.exchange == "none":
            return lambda: result.flatten()
        workers, own = self.gang.workers, result.flatten()
        everyone = self._empty(len(self.shares) * self.numel, result.dtype)
        if not self.by_all_to_all:
            work = dist.all_gather_single(everyone, own, group=self.gang.group, async_op=True)
            return after(work, lambda: everyone, keep=own)
        copies = own.repeat(workers)
        work = dist.all_to_all_single(
            everyone,
            copies,
            output_split_sizes=[count * self.numel for count in self.owned],
            input_split_sizes=[own.numel()] * workers,
            group=self.gang.group,
            async_op=True,
        )
        return after(work, lambda: everyone, keep=copies)

    def held(self) -> list[int]:
        return [self.numel] * len(self.shares)

    def weights(self) -> list[Tensor]:
        return self._weights(self.all_runs)
