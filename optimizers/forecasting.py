"""What a step would cost with so many workers: owners, operations and bytes, without running it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from optimizers.layouts import flat_layout, row_layout, slice_layout, whole_layout
from optimizers.plan import Layout
from optimizers.registry import module_of, routes
from optimizers.routing import Route
from optimizers.sharing import MatrixWork, plan_matrices
from optimizers.specs import OptimizerSpec, exchange_of

Storage = Literal["whole", "rows", "slices", "flat"]
"""Who holds the weights: everyone (data parallelism, ZeRO 0), blocks of rows (FSDP2), a slice of
every parameter (ZeRO 3), a slice of all parameters end to end (ZeRO 1 and 2)."""


@dataclass(frozen=True)
class ParameterForecast:
    """One parameter.

    Args:
        route: Its algorithm, group, reason and matrices.
        owners: For each of its matrices, the worker that sees it whole; -1 for everyone.
        batches: The buckets of its matrices, in the order in which they are computed.
        computation: What the owners do and why, such as form and dtype of Newton-Schulz; empty for
            AdamW.
        flops: Operations of one step at the owners, over all its matrices.
    """

    route: Route
    owners: tuple[int, ...]
    batches: tuple[int, ...]
    computation: str
    flops: int


@dataclass(frozen=True)
class Forecast:
    """One optimizer step of the matrices.

    Args:
        parameters: In the order of the model.
        flops: Operations of each worker on the matrices that it owns.
        bytes_sent: Bytes that each worker sends for matrices.
        bytes_floor: The least that a worker can send on average.
        digest: Of the plan; empty where no matrices are shared.
    """

    parameters: tuple[ParameterForecast, ...]
    flops: tuple[int, ...]
    bytes_sent: tuple[int, ...]
    bytes_floor: float
    digest: str


def forecast(
    spec: OptimizerSpec,
    named_parameters: Iterable[tuple[str, Tensor]],
    *,
    workers: int,
    storage: Storage = "whole",
    reduces: bool = False,
    device: torch.device | None = None,
) -> Forecast:
    """Route and plan one step for a number of workers.

    Args:
        spec: Any optimizer; those with an `exchange` share work.
        named_parameters: Of the model, whole; tensors on the meta device will do.
        workers: N.
        storage: Who holds the weights.
        reduces: Whether owners average local gradients themselves (`bind(gradients="local")`).
        device: Where the owners compute; by default the CPU.

    Raises:
        ValueError: When the routes are wrong (see `routes`).
    """
    found = routes(spec, named_parameters)
    exchange = exchange_of(spec)
    if exchange is None:
        parameters = tuple(ParameterForecast(route, (), (), "", 0) for route in found)
        return Forecast(parameters, (0,) * workers, (0,) * workers, 0.0, "")
    works: dict[tuple[int, int], MatrixWork] = module_of(spec).works(
        spec, found, device=device or torch.device("cpu")
    )
    plan = plan_matrices(
        found,
        works=works,
        exchange=exchange,
        layout=_layout(found, storage, workers=workers),
        workers=workers,
        reduces=reduces,
    )
    bucket_of = {
        index: number for number, bucket in enumerate(plan.buckets) for index in bucket.indices
    }
    rows, begin = [], 0
    for route in found:
        shares = range(begin, begin + route.num_matrices)
        begin += route.num_matrices
        rows.append(
            ParameterForecast(
                route=route,
                owners=tuple(plan.shares[i].owner for i in shares),
                batches=tuple(dict.fromkeys(bucket_of[i] for i in shares)),
                computation="; ".join(works[s].reason for s in route.matrix_shapes),
                flops=sum(plan.shares[i].flops for i in shares),
            )
        )
    return Forecast(
        parameters=tuple(rows),
        flops=tuple(plan.load(worker) for worker in range(workers)),
        bytes_sent=tuple(plan.traffic(worker).total for worker in range(workers)),
        bytes_floor=plan.bytes_floor(),
        digest=plan.digest,
    )


def _layout(found: list[Route], storage: Storage, *, workers: int) -> Layout:
    # Backends flatten group by group.
    by_group = [
        [(route.name, route.shape) for route in found if route.group == group]
        for group in dict.fromkeys(route.group for route in found)
    ]
    make = {"whole": whole_layout, "rows": row_layout, "slices": slice_layout, "flat": flat_layout}
    layout: dict[str, tuple[tuple[int, int], ...]] = {}
    for named_shapes in by_group:
        layout.update(make[storage](named_shapes, workers=workers))
    return layout
