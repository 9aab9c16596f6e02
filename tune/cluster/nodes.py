"""One question to every node that can train, answered on the node itself."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tune.cluster.capacity import GangSize

ANSWER_TIMEOUT_S = 60.0
"""A fresh worker process of Ray takes seconds; a node that says nothing must not stop a study."""

NODE_ANSWER_S = 3.0
"""For a connection to a raylet; that of a host which is gone comes to nothing."""

# Enough for Ray to show the task a GPU, and next to nothing of what a gang will occupy.
A_LITTLE_GPU = 0.001
LONGEST_LINE = 200

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Answers(Generic[T]):
    """Of the nodes that were asked, each by its name in one of these.

    Attributes:
        failed: why, where the question itself raised an error.
        missing: why, where nothing came: the node is silent, or lost.
    """

    given: dict[str, T]
    failed: dict[str, str]
    missing: dict[str, str]


def ask_nodes(
    question: Callable[[], T],
    nodes: Mapping[str, str],
    *,
    gpus: float = 0.0,
    at_most_s: float = ANSWER_TIMEOUT_S,
) -> Answers[T]:
    """One process on each node answers, at the same time.

    Args:
        nodes: ids by name, as `training_nodes` and `all_nodes` return them.
        gpus: what the question takes of the node's GPUs.
        at_most_s: for all of them together, the start of a process included.
    """
    asked = {
        ray.remote(_answer)
        .options(
            num_cpus=0,
            num_gpus=gpus,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        .remote(question): name
        for name, node in nodes.items()
    }
    if not asked:
        return Answers(given={}, failed={}, missing={})
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=at_most_s)
    answers: Answers[T] = Answers(given={}, failed={}, missing={})
    for reference in silent:
        ray.cancel(reference, force=True)
        answers.missing[asked[reference]] = f"no answer within {at_most_s:.0f} s"
    for reference in answered:
        name = asked[reference]
        try:
            answers.given[name] = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            answers.failed[name] = f"{type(error.cause).__name__}: {error.cause}"
        except ray.exceptions.RayError as error:
            answers.missing[name] = first_line(error)
    return answers


def first_line(error: BaseException) -> str:
    """Of what Ray raised, or of its cause on the node itself."""
    cause = getattr(error, "cause", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:LONGEST_LINE]


def training_nodes(gang: GangSize) -> dict[str, str]:
    """Ids of the nodes with room for a worker, by address; none where there is only this one."""
    nodes = [node for node in ray.nodes() if node["Alive"] and _trains(node, gang)]
    here = ray.get_runtime_context().get_node_id()
    if all(node["NodeID"] == here for node in nodes):
        return {}
    return {name: node for node, name in _names(nodes).items()}


def all_nodes() -> dict[str, dict[str, Any]]:
    """What Ray knows of every node that lives, by address: also one that only drives."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    names = _names(nodes)
    return {names[node["NodeID"]]: node for node in nodes}


def ray_files_here() -> Path | None:
    """The temporary folder of the Ray that this process belongs to; Ray has no public word."""
    node = getattr(ray._private.worker, "_global_node", None)
    return None if node is None else Path(node.get_temp_dir_path())


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
