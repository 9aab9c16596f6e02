"""What one worker holds of the parameters under each layout, and the gradients that it sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.nn import Parameter

from optimizers import Fragment, OptimizerSpec, build_optimizer
from optimizers.layouts import flat_layout, row_layout, slice_layout

SHAPES: dict[str, tuple[int, ...]] = {
    "embedding.weight": (13, 6),
    "layers.0.wide.weight": (6, 20),
    "layers.0.tall.weight": (20, 6),
    "layers.0.square.weight": (8, 8),
    "layers.0.odd.weight": (7, 5),
    "layers.0.row.weight": (1, 9),
    "layers.0.norm.weight": (5,),
    "layers.0.experts.up": (5, 6, 10),
    "layers.0.experts.down": (5, 10, 6),
    "layers.0.qkv.weight": (12, 6),
    "head.weight": (13, 6),
}
NAMED_SHAPES = list(SHAPES.items())
SPEC: dict[str, Any] = {
    "lr": 0.05,
    "ns_dtype": "fp32",
    "splits": [{"pattern": "*.qkv.weight", "parts": 3}],
}


def initial() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in NAMED_SHAPES}


def local_gradient(scenario: str, *, step: int, worker: int) -> dict[str, Tensor | None]:
    """What one worker's backward pass leaves behind."""
    generator = torch.Generator().manual_seed(1000 * step + worker)
    found: dict[str, Tensor | None] = {
        name: torch.randn(shape, generator=generator) for name, shape in NAMED_SHAPES
    }
    if scenario == "bfloat16":  # of rank 1, as of an expert with one token
        found = {
            name: gradient[..., :1] * gradient[..., :1, :] if gradient.ndim > 1 else gradient
            for name, gradient in found.items()
            if gradient is not None
        }
    if scenario == "zero":
        found["layers.0.experts.up"] = torch.zeros(SHAPES["layers.0.experts.up"])
        found["layers.0.odd.weight"] = torch.zeros(SHAPES["layers.0.odd.weight"])
    if scenario == "starved" and step >= 1:  # expert 1 on no worker, expert 3 on the first only
        for name in ("layers.0.experts.up", "layers.0.experts.down"):
            experts = found[name]
            assert experts is not None
            experts[1] = 0.0
            if worker > 0:
                experts[3] = 0.0
    if scenario == "missing" and worker == 0:
        found["layers.0.experts.down"] = found["layers.0.tall.weight"] = None
    if scenario == "not_finite" and step == 1 and worker == 0:
        experts = found["layers.0.experts.down"]
        assert experts is not None
        experts[3, 2, 1] = float("nan")
    return found


def averaged_gradient(scenario: str, *, step: int, workers: int) -> dict[str, Tensor]:
    each = [local_gradient(scenario, step=step, worker=w) for w in range(workers)]
    return {
        name: sum((g for g in (one[name] for one in each) if g is not None), torch.zeros(shape))
        / workers
        for name, shape in NAMED_SHAPES
    }


class Holder:
    """The parameters of one worker under one layout, as a backend would hold them."""

    def __init__(self, layout: str, spec: OptimizerSpec, weights: dict[str, Tensor]) -> None:
        self.layout, self.rank, self.workers = layout, dist.get_rank(), dist.get_world_size()
        named = [(name, Parameter(weights[name].clone())) for name in SHAPES]
        if layout == "dtensor":
            named = [(name, _by_rows(parameter)) for name, parameter in named]
        optimizer = build_optimizer(spec, named)
        self.optimizer = optimizer
        self.named = dict(named)
        self.all_finite = True
        self.started = 0  # buckets whose gradients left during the last backward pass
        self.is_local = False
        if layout in ("flat", "slices", "rows"):
            self._cut(weights)
        else:
            self.is_local = layout in ("local", "native")
            if layout == "native":  # what NCCL gets: reduce-scatter and all-gather
                make_gang = self.optimizer._gang
                self.optimizer._gang = lambda: replace(make_gang(), by_all_to_all=False)  # type: ignore[method-assign]
            self.optimizer.bind(gradients="local" if self.is_local else "averaged")

    def _cut(self, weights: dict[str, Tensor]) -> None:
        """Replace the parameters of every group by one flat tensor, or by two (sub-groups)."""
        make = {"flat": flat_layout, "slices": slice_layout, "rows": row_layout}[self.layout]
        fragments: list[Fragment] = []
        self.storages: dict[str, list[Tensor]] = {}
        for group in self.optimizer.param_groups:
            names = group["parameter_names"]
            half = len(names) // 2 if self.layout == "slices" and len(names) > 1 else len(names)
            tensors = []
            for part in (names[:half], names[half:]):
                if not part:
                    continue
                held = make([(n, SHAPES[n]) for n in part], workers=self.workers)
                pieces = [weights[n].reshape(-1)[slice(*held[n][self.rank])] for n in part]
                padding = torch.full((3,), 7.0)  # a backend pads its flat tensors
                storage = Parameter(torch.cat([*pieces, padding]))
                offset = 0
                for name in part:
                    start, stop = held[name][self.rank]
                    fragments.append(Fragment(name, start, stop, storage, offset))
                    offset += stop - start
                tensors.append(storage)
            group["params"] = tensors
            self.storages[group["name"]] = tensors
        # Stepped group by group, the optimizer cannot see all gradients at once; its backend can.
        self.optimizer.bind(fragments, gradients_are_finite=lambda: self.all_finite)

    def set_gradients(self, scenario: str, *, step: int) -> None:
        averaged = averaged_gradient(scenario, step=step, workers=self.workers)
        local = local_gradient(scenario, step=step, worker=self.rank)
        self.all_finite = all(bool(g.isfinite().all()) for g in averaged.values())
        shared = set(getattr(self.optimizer, "matrix_names", ()))
        if self.layout in ("flat", "slices", "rows"):
            fragments = self.optimizer._fragments
            for tensors in self.storages.values():
                for storage in tensors:
                    storage.grad = torch.zeros_like(storage)
            for name, f in fragments.items():
                assert f.storage.grad is not None
                piece = averaged[name].reshape(-1)[f.start : f.stop]
                f.storage.grad[f.offset : f.offset + f.numel] = piece
            return
        for name, parameter in self.named.items():
            if self.layout == "dtensor":
                parameter.grad = _by_rows(averaged[name]).data
            elif not (self.is_local and name in shared):
                parameter.grad = averaged[name]
        if self.is_local:
            self._backward(
                {name: local[name] for name in shared}, in_two_parts=scenario == "clipped"
            )

    def _backward(self, local: dict[str, Tensor | None], *, in_two_parts: bool) -> None:
        """A real backward pass, whose buckets leave as they fill; or two halves, and none leaves.

        The local gradients of the matrices are those asked for.
        """
        for name in local:
            self.named[name].grad = None
        if not in_two_parts:
            self.optimizer.reduce_during_backward()
        for _ in range(1 + in_two_parts):
            products = [
                (self.named[name] * value).sum() / (1 + in_two_parts)
                for name, value in local.items()
                if value is not None
            ]
            torch.stack(products).sum().backward()  # type: ignore[no-untyped-call]
        assert self.optimizer._reduction is not None or self.workers == 1
        self.started = self.optimizer._reduction._started if self.optimizer._reduction else 0

    def step(self) -> None:
        groups = self.optimizer.param_groups
        if self.layout == "flat":  # as ZeRO 1 and 2 do it
            for group in groups:
                self.optimizer.param_groups = [group]
                self.optimizer.step()
            self.optimizer.param_groups = groups
        elif self.layout == "slices":  # as ZeRO 3 does it
            for group in groups:
                group["params"] = []
            for group in groups:
                for storage in self.storages[group["name"]]:
                    group["params"] = [storage]
                    self.optimizer.step()
                    group["params"] = []
            for group in groups:
                group["params"] = self.storages[group["name"]]
        else:
            self.optimizer.step()

    def pieces(self) -> Iterator[tuple[str, int, int, Tensor]]:
        for name, f in self.optimizer._fragments.items():
            yield name, f.start, f.stop, f.weight()


def _by_rows(tensor: Tensor) -> Parameter:
    return Parameter(distribute_tensor(tensor.detach(), _mesh(), [Shard(0)]))


@cache
def _mesh() -> DeviceMesh:
    return init_device_mesh("cpu", (dist.get_world_size(),))
