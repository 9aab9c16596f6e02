"""The connection to Ray: a cluster, or a local Ray of our own."""

from __future__ import annotations

import os
from typing import Any

import ray
from ray._private import worker

from harness.errors import UserError
from tune.capacity import Capacity
from tune.local_ray import lean


def connect(address: str | None) -> Capacity:
    """Joins the cluster at `address`, or starts a local Ray.

    Raises:
        UserError: no cluster answers at `address`.
    """
    if address and address.startswith("ray://"):
        raise UserError(
            f"--address {address!r}: through a Ray Client the results would be written on the head "
            "node; run this command on a node of the cluster with --address auto"
        )
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None and "RAY_ADDRESS" not in os.environ:
        # Ray's dashboard is one more heavy process, and nobody looks at it here.
        options["include_dashboard"] = False
        # By itself Ray would join what somebody started on this machine, or wait for what is left.
        address = "local"
    try:
        with lean():
            ray.init(address=address, **options)
        _leave_out_the_raylet()
    except ConnectionError as error:
        raise UserError(
            f"no Ray cluster answers at {address or os.environ.get('RAY_ADDRESS')!r} ({error}): "
            "start one with `ray start --head`, or leave out --address and unset RAY_ADDRESS"
        ) from None
    return capacity()


def _leave_out_the_raylet() -> None:
    """Of a worker that died it prints a paragraph on the terminal; we say in a line what happened.

    Ray has no switch for it. What the autoscaler says still comes through.
    """
    original = getattr(worker, "print_to_stdstream", None)
    if original is None or getattr(original, "is_ours", False):
        return

    def others_only(data: dict[str, Any], *arguments: Any, **options: Any) -> None:
        if data.get("pid") != "raylet":
            original(data, *arguments, **options)

    others_only.is_ours = True  # type: ignore[attr-defined]
    worker.print_to_stdstream = others_only


def capacity() -> Capacity:
    """What the connected Ray has now."""
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return Capacity(
        nodes=tuple((has.get("CPU", 0.0), has.get("GPU", 0.0)) for has in resources),
        where="this machine or cluster",
    )
