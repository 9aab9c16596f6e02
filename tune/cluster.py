"""The connection to Ray: a cluster, or a local Ray of our own."""

from __future__ import annotations

import os
from typing import Any

import ray

from harness.errors import UserError
from tune.capacity import Capacity


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
    try:
        ray.init(address=address, **options)
    except ConnectionError as error:
        raise UserError(
            f"no Ray cluster answers at {address or os.environ.get('RAY_ADDRESS')!r} ({error}): "
            "start one with `ray start --head`, or leave out --address and unset RAY_ADDRESS"
        ) from None
    return capacity()


def capacity() -> Capacity:
    """What the connected Ray has now."""
    resources = ray.cluster_resources()
    return Capacity(
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        where="this machine or cluster",
    )
