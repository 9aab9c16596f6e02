"""How matrices are shared: the planner of `plan.py` with the costs of what their owners do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import torch
import torch.distributed as dist

from optimizers.fragments import agree_on_nodes
from optimizers.newton_schulz import Computation, choose_computation
from optimizers.plan import Layout, Plan, make_plan
from optimizers.routing import Matrix, Route
from optimizers.specs import DtypeChoice, FormChoice


def travel_dtype(dtype: torch.dtype) -> torch.dtype:
    """In which the update goes to the owner: that of Newton-Schulz, if it has float32's range."""
    return torch.bfloat16 if dtype == torch.bfloat16 else torch.float32


class NewtonSchulzSettings(Protocol):
    """What a specification says about Newton-Schulz."""

    @property
    def schedule(self) -> str: ...
    @property
    def num_steps(self) -> int: ...
    @property
    def ns_dtype(self) -> DtypeChoice: ...
    @property
    def ns_form(self) -> FormChoice: ...


def choose_computations(
    spec: NewtonSchulzSettings, routes: Sequence[Route], *, device: torch.device
) -> dict[tuple[int, int], Computation]:
    """Form and dtype of Newton-Schulz for every shape of matrix on a device."""
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


@dataclass(frozen=True)
class MatrixWork:
    """What the owner of matrices of one shape does, and what travels.

    Args:
        flops: Operations on one matrix in one step, on average, which the planner balances.
        sent_bytes: Of one element on its way to the owner, where it is no raw gradient.
        returned_bytes: Of one element on its way back.
        reason: One sentence for the report.
    """

    flops: int
    sent_bytes: int
    returned_bytes: int
    reason: str


def newton_schulz_works(
    computations: Mapping[tuple[int, int], Computation],
) -> dict[tuple[int, int], MatrixWork]:
    """Of optimizers whose owners orthogonalise."""
    return {
        shape: MatrixWork(c.flops, travel_dtype(c.dtype).itemsize, c.dtype.itemsize, c.reason)
        for shape, c in computations.items()
    }


def plan_matrices(
    routes: Sequence[Route],
    *,
    works: Mapping[tuple[int, int], MatrixWork],
    exchange: str,
    layout: Layout,
    workers: int,
    reduces: bool,
    nodes: Sequence[int] | None = None,
) -> Plan:
    """Share the matrices of parameters among workers.

    Args:
        routes: The parameters to plan for; those without matrices are passed over.
        works: For each shape, what its owner does.
        exchange: `replicated` lets every worker do all that every worker holds whole.
        layout: What each worker holds of each parameter.
        workers: N.
        reduces: Whether gradients are local and are averaged at the owners.
        nodes: The node of each worker; by default there is one.
    """

    def work_of(matrix: Matrix) -> MatrixWork:
        return works[matrix.rows, matrix.columns]

    return make_plan(
        [matrix for route in routes for matrix in route.matrices],
        layout=layout,
        workers=workers,
        cost=lambda matrix: work_of(matrix).flops,
        travel_bytes=lambda m: (work_of(m).sent_bytes, work_of(m).returned_bytes),
        share_whole=reduces or exchange != "replicated",
        reduces=reduces,
        nodes=nodes,
    )


Sharing = Literal["replicated", "owner", "node"]


def choose_sharing(exchange: str, *, device: torch.device) -> Sharing:
    """What `exchange` means for the workers of the default group. A collective call for `auto`."""
    if exchange != "auto":
        return cast(Sharing, exchange)
    workers = dist.get_world_size()
    nodes = agree_on_nodes(group=None, workers=workers, device=device)
    return best_sharing(nodes, pairwise=dist.get_backend() == "gloo")


def best_sharing(nodes: Sequence[int], *, pairwise: bool) -> Sharing:
    """Whether all workers share the work, or those of each node: what leaves a node decides.

    In float32 elements of the matrices that leave one node of n workers, of N in all:

    - owner: a gradient to its owner and the result back. Pairwise, each worker sends `(N - n) / N`
      of both to the workers elsewhere, `2 n (N - n) / N`; in a ring one worker of the node has a
      neighbour elsewhere, `2 (N - 1) / N`.
    - node: the gradient's all-reduce, always a ring, `2 (N - 1) / N`.

    With equal bytes all workers share, since each then computes less.

    Args:
        nodes: The node of each worker.
        pairwise: Whether matrices move by all-to-all (gloo) instead of by rings (NCCL).
    """
    workers, largest = len(nodes), max(Counter(nodes).values())
    if not pairwise or largest == workers:
        return "owner"
    by_owner = 2 * largest * (workers - largest) / workers
    by_node = 2 * (workers - 1) / workers
    return "node" if by_node < by_owner else "owner"


def group_of_node(*, device: torch.device) -> dist.ProcessGroup | None:
    """The group of the workers on this worker's node. A collective call."""
    nodes = agree_on_nodes(group=None, workers=dist.get_world_size(), device=device)
    members = [
        [rank for rank, node in enumerate(nodes) if node == number] for number in sorted(set(nodes))
    ]
    groups = [dist.new_group(ranks) for ranks in members]  # every worker creates all of them
    own: dist.ProcessGroup | None = groups[nodes[dist.get_rank()]]
    return own
