"""How Muon's matrices are shared: the planner of `plan.py` with the costs of Newton-Schulz."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from optimizers.newton_schulz import Computation, choose_computation
from optimizers.plan import Layout, Plan, make_plan
from optimizers.routing import Matrix, Route
from optimizers.specs import MuonSpec


def travel_dtype(dtype: torch.dtype) -> torch.dtype:
    """In which the update goes to the owner: that of Newton-Schulz, if it has float32's range."""
    return torch.bfloat16 if dtype == torch.bfloat16 else torch.float32


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
    nodes: Sequence[int] | None = None,
) -> Plan:
    """Share Muon's matrices among workers.

    Args:
        spec: Its `exchange` decides about matrices that every worker holds whole.
        routes: The parameters to plan for; those of AdamW are passed over.
        computations: From `choose_computations`, for the costs.
        layout: What each worker holds of each parameter.
        workers: N.
        reduces: Whether gradients are local and are averaged at the owners.
        nodes: The node of each worker; by default there is one.
    """

    def travel_bytes(matrix: Matrix) -> tuple[int, int]:
        dtype = computations[matrix.rows, matrix.columns].dtype
        return travel_dtype(dtype).itemsize, dtype.itemsize

    return make_plan(
        [matrix for route in routes for matrix in route.matrices],
        layout=layout,
        workers=workers,
        cost=lambda matrix: computations[matrix.rows, matrix.columns].flops,
        travel_bytes=travel_bytes,
        share_whole=reduces or spec.exchange != "replicated",
        reduces=reduces,
        nodes=nodes,
    )
