"""One process on every node: do they reach one another, how fast, and do their clocks agree?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tune.checks.findings import Finding
from tune.checks.node_checks import network, no_network
from tune.cluster.nodes import first_line
from tune.gangs.network import open_meeting, use_interface_of

MEETING_S = 60.0
"""Nodes that cannot reach one another in this time would not do so in a trial."""

SMALL_BYTES, LARGE_BYTES = 1 << 20, 16 << 20
QUICK_S = 0.25
"""A small message that takes longer says enough of the way; a large one would only hold up."""

CLOCK_QUESTIONS = 5
"""The answer that took the shortest way tells the time best."""


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """An all-reduce over one process on each of `nodes` nodes."""

    nodes: int
    message_bytes: int
    seconds: float

    @property
    def bus_bytes_per_s(self) -> float:
        """Through each node's network in one direction, as nccl-tests count an all-reduce."""
        return 2 * (self.nodes - 1) / self.nodes * self.message_bytes / self.seconds


class MeetingFailed(Exception):
    """The nodes did not meet."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(reason)
        self.where, self.reason = where, reason


@dataclass(frozen=True, kw_only=True)
class ClockReading:
    """How far a node's clock is ahead of the driver's, and by how much that may be wrong."""

    ahead_s: float
    uncertain_s: float


class Scout:
    """One process on one node that meets those on the others."""

    def clock(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def opens(self, ports: Sequence[int]) -> tuple[str, int]:
        """The address and the port where the others can meet it, held from now on."""
        self._meeting = open_meeting(ports)
        return ray.util.get_node_ip_address(), self._meeting.port

    def meets(self, where: tuple[str, int], rank: int, size: int) -> tuple[int, float]:
        """Bytes of a message, and how many seconds its all-reduce took the slowest."""
        import torch.distributed as dist
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        use_interface_of(ray.util.get_node_ip_address())
        timeout = timedelta(seconds=MEETING_S / 2)
        store = TCPStore(*where, is_master=False, timeout=timeout)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timeout)
        try:
            _all_reduce_s(4)  # makes the connections
            took = _all_reduce_s(SMALL_BYTES)
            if took > QUICK_S:
                return SMALL_BYTES, took
            return LARGE_BYTES, min(_all_reduce_s(LARGE_BYTES) for _ in range(2))
        finally:
            dist.destroy_process_group()


def _all_reduce_s(message_bytes: int) -> float:
    """The same number on every rank, so that all decide alike what comes next."""
    import torch
    import torch.distributed as dist

    message = torch.ones(message_bytes // 4)
    dist.barrier()
    begun = time.perf_counter()
    dist.all_reduce(message)
    took = torch.tensor(time.perf_counter() - begun, dtype=torch.float64)
    dist.all_reduce(took, dist.ReduceOp.MAX)
    return float(took)


class Scouts:
    """A scout on each node; use it as a context manager.

    Args:
        nodes: ids by the name that a person knows.
    """

    def __init__(self, nodes: Mapping[str, str]) -> None:
        self.actors: dict[str, Any] = {
            name: ray.remote(Scout)
            .options(
                num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            )
            .remote()
            for name, node in nodes.items()
        }

    def __enter__(self) -> Scouts:
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self.actors.values():
            ray.kill(actor)

    def clocks(self) -> dict[str, ClockReading]:
        """Against this process's clock; without the nodes that do not answer."""
        readings = {}
        for name, actor in self.actors.items():
            with suppress(ray.exceptions.RayError):
                ray.get(actor.clock.remote(), timeout=MEETING_S)  # the process has started
                readings[name] = min(
                    (_read_clock(actor) for _ in range(CLOCK_QUESTIONS)),
                    key=lambda reading: reading.uncertain_s,
                )
        return readings

    def meet(self, names: Sequence[str], ports: Sequence[int]) -> Meeting:
        """An all-reduce over one process on each of these nodes, over a trial's interfaces.

        Args:
            ports: first and last of those at which they may meet, as `resources.ports`.

        Raises:
            MeetingFailed: naming the node that failed first, or did not answer.
        """
        name = names[0]
        try:
            where = ray.get(self.actors[name].opens.remote(ports), timeout=MEETING_S)
            pending = {
                self.actors[name].meets.remote(where, rank, len(names)): name
                for rank, name in enumerate(names)
            }
            until, answers = time.monotonic() + MEETING_S, []
            while pending and (left := until - time.monotonic()) > 0:
                ready, _ = ray.wait(list(pending), num_returns=1, timeout=left)
                for reference in ready:
                    name = pending.pop(reference)
                    # The first one that fails is not waited for by the others.
                    answers.append(ray.get(reference))
            if pending:
                name = next(iter(pending.values()))
                raise ray.exceptions.GetTimeoutError
        except Exception as error:
            raise MeetingFailed(name, _why(error)) from error
        message_bytes, seconds = answers[0]
        return Meeting(nodes=len(names), message_bytes=message_bytes, seconds=seconds)


def network_finding(scouts: Scouts, names: Sequence[str], ports: Sequence[int]) -> Finding:
    """Whether the scouts of these nodes meet, and how fast."""
    try:
        meeting = scouts.meet(names, ports)
    except MeetingFailed as error:
        return no_network(error.where, len(names), error.reason)
    return network(
        nodes=meeting.nodes,
        message_bytes=meeting.message_bytes,
        seconds=meeting.seconds,
        bus_bytes_per_s=meeting.bus_bytes_per_s,
    )


def _read_clock(actor: Any) -> ClockReading:
    """As NTP: the node answered halfway between question and arrival, give or take that half."""
    asked = time.time()
    there = ray.get(actor.clock.remote(), timeout=MEETING_S)
    half_way = (time.time() - asked) / 2
    return ClockReading(ahead_s=there - (asked + half_way), uncertain_s=half_way)


def _why(error: Exception) -> str:
    if isinstance(error, ray.exceptions.GetTimeoutError):
        return f"no answer within {MEETING_S:.0f} s"
    return first_line(error)
