"""The connection to Ray: a cluster, or a local Ray of our own."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import ray
from ray._private import worker

from harness.errors import UserError
from tune.cluster.capacity import Capacity, Growth
from tune.cluster.growth import growth_of_cluster
from tune.cluster.joining import LOCAL, check_cluster, cluster_meant
from tune.cluster.local_ray import lean


def connect(address: str | None) -> Capacity:
    """Joins the cluster at `address`, or starts a local Ray.

    Raises:
        UserError: no cluster answers at `address`, or it refuses this run.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    cluster = cluster_meant(address)
    if cluster is None:
        # Ray's dashboard is one more heavy process, and nobody looks at it here.
        options["include_dashboard"] = False
        # By itself Ray would join what somebody started on this machine, or wait for what is left.
        cluster = LOCAL
    else:
        cluster = check_cluster(cluster)
    try:
        with lean():
            ray.init(address=cluster, **options)
        _leave_out_the_raylet()
    except ConnectionError as error:
        why = str(error.__cause__ or error).splitlines()[0]
        raise UserError(
            f"the Ray cluster at {cluster} cannot be joined from here ({why}): "
            "the driver must run on a node of it; make this machine one with `ray start "
            f"--address={cluster} --num-cpus=0`"
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


def is_joined() -> bool:
    """Whether others may use the connected Ray: it is not one that this process has started."""
    return not worker._global_node.is_head()


def capacity() -> Capacity:
    """What the connected Ray has now, and may grow to."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if not is_joined():
        return Capacity(nodes=tuple(map(_has, nodes)), where="this machine")
    head = next((node for node in nodes if "node:__internal_head__" in node["Resources"]), None)
    growth = _growth(worker._global_node.session_name, None if head is None else head["NodeID"])
    return Capacity(nodes=tuple(map(_has, nodes)), where="this cluster", growth=growth)


def _has(node: dict[str, Any]) -> tuple[float, float]:
    return node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)


@functools.cache
def _growth(session: str, head_id: str | None) -> Growth | None:
    """Asked once: a limit is seldom changed while a study runs."""
    head = next((node for node in ray.nodes() if node["NodeID"] == head_id), None)
    growth = growth_of_cluster(head)
    if growth is None or head is None:
        return growth
    return replace(growth, head=_has(head))
