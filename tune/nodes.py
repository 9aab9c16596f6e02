"""One question to every node that can train, answered on the node itself."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tune.capacity import GangSize

ANSWER_TIMEOUT_S = 60.0
"""A fresh worker process of Ray takes seconds; a node that says nothing must not stop a study."""

NODE_ANSWER_S = 3.0
"""For a connection to a raylet; that of a host which is gone comes to nothing."""

# Enough for Ray to show the task a GPU, and next to nothing of what a gang will occupy.
_A_LITTLE_GPU = 0.001

T = TypeVar("T")


def ask_nodes(question: Callable[[], T], gang: GangSize) -> dict[str, T]:
    """The answer of every node that has room for a worker, by the node's address.

    Empty where this machine is the only one: then there is nothing to compare, and nothing is
    started. A node that does not answer in a minute is left out.
    """
    gpus = _A_LITTLE_GPU if gang.gpus_per_worker else 0
    asked = {
        ray.remote(_answer)
        .options(
            num_cpus=0,
            num_gpus=gpus,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        .remote(question): name
        for name, node in training_nodes(gang).items()
    }
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_TIMEOUT_S)
    for reference in silent:
        ray.cancel(reference, force=True)
    answers = {}
    for reference in answered:
        # Nothing from a node that was lost meanwhile.
        with suppress(ray.exceptions.RayError):
            answers[asked[reference]] = ray.get(reference)
    return answers


def training_nodes(gang: GangSize) -> dict[str, str]:
    """Ids of the nodes with room for a worker, by address; none where there is only this one."""
    nodes = [node for node in ray.nodes() if node["Alive"] and _trains(node, gang)]
    here = ray.get_runtime_context().get_node_id()
    if all(node["NodeID"] == here for node in nodes):
        return {}
    return {name: node for node, name in _names(nodes).items()}


def lost_nodes(nodes: set[str]) -> set[str]:
    """Those of these ids whose raylet answers no more; Ray itself may know it much later."""
    known = {node["NodeID"]: node for node in ray.nodes()} if nodes else {}
    return {node for node in nodes if node not in known or not _answers(known[node])}


def _answers(node: dict[str, Any]) -> bool:
    if not node["Alive"]:
        return False
    place = node["NodeManagerAddress"], node["NodeManagerPort"]
    with suppress(OSError), socket.create_connection(place, timeout=NODE_ANSWER_S):
        return True
    return False


def _answer(question: Callable[[], T]) -> T:
    """A plain function, as Ray wants for a task, around a question that may be a partial one."""
    return question()


def _trains(node: dict[str, Any], gang: GangSize) -> bool:
    has = node["Resources"]
    return bool(
        has.get("CPU", 0) >= max(1, gang.cpus_per_worker)
        and has.get("GPU", 0) >= gang.gpus_per_worker
    )


def _names(nodes: list[dict[str, Any]]) -> dict[str, str]:
    """Addresses by node; several nodes at one address get a part of their id."""
    addresses = [node["NodeManagerAddress"] for node in nodes]
    return {
        node["NodeID"]: address + (f"#{node['NodeID'][:6]}" if addresses.count(address) > 1 else "")
        for node, address in zip(nodes, addresses, strict=True)
    }
