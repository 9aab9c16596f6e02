"""Why a gang failed: every member is asked, because the first error heard is often a survivor's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.runs.attempts import AttemptEnd
from tune.cluster.nodes import lost_nodes
from tune.gangs.failures import signature
from tune.gangs.worker import oom_kills, tail_of

ANSWER_S = 10.0
"""A living worker answers at once; Ray knows a dead one within seconds, a lost node a bit later."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """How an attempt ended, by whom, and in which words."""

    end: AttemptEnd
    cause: str
    signature: str
    rank: int
    traceback: str | None = None


@dataclass(frozen=True)
class Member:
    """A worker as it was when it was asked: `alive`, `dead` with Ray's words, or `silent`."""

    state: str
    words: str = ""
    by_memory_monitor: bool = False


def diagnose(
    heard: Failure | None,
    *,
    workers: Mapping[int, Any],
    places: Mapping[int, Mapping[str, Any]],
) -> Failure:
    """The member that is to blame: of a lost node, dead, silent, or the one that said so itself.

    Args:
        heard: what a worker or the heartbeats said first; None: only that somebody died.
        workers: actors by rank.
        places: where they are, as `Worker.place` answered.
    """
    silent = {heard.rank} if heard is not None and heard.end == "hung" else set()
    members = ask_members({rank: w for rank, w in workers.items() if rank not in silent})
    members |= dict.fromkeys(silent, Member("silent"))
    gone = [rank for rank, member in members.items() if member.state != "alive"]
    here = ray.get_runtime_context().get_node_id()
    lost = lost_nodes({places[rank]["node"] for rank in gone} - {here}) if gone else set()
    for rank in gone:
        if places[rank]["node"] in lost:
            cause = f"the node of worker {rank} is lost: {_where(places[rank])}"
            return failure("node_lost", cause, rank)
    for rank, member in members.items():
        if member.state == "dead":
            if member.by_memory_monitor or _killed_for_memory(places[rank]):
                words = f"worker {rank} was killed for memory, {_where(places[rank])}"
                return failure("out_of_memory", words, rank)
            return failure(
                "worker_died", f"worker {rank} died, {_where(places[rank])}: {member.words}", rank
            )
    if heard is not None:
        return heard
    for rank, member in members.items():
        if member.state == "silent":
            return failure("hung", f"worker {rank} does not answer, {_where(places[rank])}", rank)
    return failure("machine", "a worker failed and all of them are alive again", 0)


def failure(end: AttemptEnd, cause: str, rank: int) -> Failure:
    return Failure(end=end, cause=cause, signature=signature(cause), rank=rank)


def ask_members(workers: Mapping[int, Any]) -> dict[int, Member]:
    """Every worker's state; waits for the slowest for some seconds."""
    asked = {worker.beat.remote(): rank for rank, worker in workers.items()}
    until, pending = time.monotonic() + ANSWER_S, list(asked)
    members = dict.fromkeys(workers, Member("silent"))
    while pending and (left := until - time.monotonic()) > 0:
        ready, pending = ray.wait(pending, num_returns=1, timeout=left)
        for reference in ready:
            members[asked[reference]] = _state(reference)
    return members


def _state(reference: Any) -> Member:
    try:
        ray.get(reference)
    except ray.exceptions.OutOfMemoryError as error:
        return Member("dead", _first_line(error), by_memory_monitor=True)
    except ray.exceptions.ActorUnavailableError as error:
        return Member("silent", _first_line(error))
    except ray.exceptions.RayError as error:
        return Member("dead", _first_line(error))
    return Member("alive")


EXITS = {
    "SIGKILL": "killed by SIGKILL",
    "connection error code 2": "its process ended without a word (killed?)",
}
"""What Ray buries in a paragraph, in plain words."""


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    for sign, words in EXITS.items():
        if sign in text:
            return words
    return (text.splitlines() or [type(error).__name__])[0][:300]


def _where(place: Mapping[str, Any]) -> str:
    return f"process {place['pid']} on {place['host']} ({place['address']})"


def _killed_for_memory(place: Mapping[str, Any]) -> bool:
    """Whether the kernel of the worker's host has killed a process for memory since it began."""
    found = on_node(place["node"], oom_kills)
    return found is not None and found > int(place["oom_kills"])


def log_tails(
    workers: Mapping[int, Any], places: Mapping[int, Mapping[str, Any]]
) -> dict[int, str]:
    """The end of every worker's log: of the living from themselves, of the dead from their host."""
    tails: dict[int, str] = {}
    asked = {rank: worker.log_tail.remote() for rank, worker in workers.items()}
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=2.0)
    for rank, reference in asked.items():
        tail: str | None = None
        with suppress(ray.exceptions.RayError):
            tail = ray.get(reference, timeout=0)
        if tail is None and places[rank]["log"]:
            tail = on_node(places[rank]["node"], tail_of, places[rank]["log"])
        if tail:
            tails[rank] = tail
    return tails


def on_node(node: str, question: Callable[..., Any], *arguments: Any) -> Any:
    """What a node answers; None if it does not in some seconds. Here, if it is this one."""
    if node == ray.get_runtime_context().get_node_id():
        return question(*arguments)
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": strategy}
    with suppress(ray.exceptions.RayError):
        return ray.get(ray.remote(question).options(**options).remote(*arguments), timeout=ANSWER_S)
    return None
