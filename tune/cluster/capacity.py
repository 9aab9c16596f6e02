"""What a machine or a cluster can place at once, and whether a gang fits. Knows nothing of Ray."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from harness.errors import UserError

RAY_GRAIN = 10_000
"""Ray counts resources in ten-thousandths (`kResourceUnitScaling`)."""

AHEAD = 200
"""Gangs that may wait for nodes which are still to come: Tune's own number for autoscaling."""


class GangSize(Protocol):
    """What one gang occupies: the `[resources]` of a study."""

    @property
    def workers(self) -> int: ...
    @property
    def cpus_per_worker(self) -> int: ...
    @property
    def gpus_per_worker(self) -> float: ...
    @property
    def placement(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The nodes that an autoscaler may hold beside the head, at most.

    `groups`: CPU cores and GPUs of one node, and how many such nodes; `most_nodes`: of all groups
    together. Not `known`: there is an autoscaler, and it does not say up to what.
    """

    head: tuple[float, float] = (0.0, 0.0)
    groups: tuple[tuple[float, float, int], ...] = ()
    most_nodes: int = 0
    known: bool = True

    def gangs(self, gang: GangSize) -> int:
        """How many fit when it has grown in the way that is best for them."""
        parts, left = [_parts(*self.head, gang)], self.most_nodes
        for each, count in sorted(
            ((_parts(cpus, gpus, gang), count) for cpus, gpus, count in self.groups), reverse=True
        ):
            parts.append(each * min(count, left))
            left -= min(count, left)
        return _gangs(parts, gang)

    def __str__(self) -> str:
        if not self.known:
            return "its autoscaler does not say up to what"
        groups = [
            f"{count} node(s) of {_node(cpus, gpus)}" for cpus, gpus, count in self.groups if count
        ]
        if not groups:
            return "no node more"
        limit = f", {self.most_nodes} node(s) in all"
        wanted = sum(count for *_, count in self.groups)
        return " and ".join(groups[:4]) + (limit if self.most_nodes < wanted else "")


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """CPU cores and GPUs of every node, and whose they are. A worker lies on one node.

    `growth`: what an autoscaler may make of it; None: there is none.
    """

    nodes: tuple[tuple[float, float], ...]
    where: str
    growth: Growth | None = None

    def gangs(self, gang: GangSize) -> int:
        """How many have room at once."""
        return _gangs((_parts(cpus, gpus, gang) for cpus, gpus in self.nodes), gang)

    def __str__(self) -> str:
        train = [node for node in self.nodes if any(node)]  # not a head that only leads
        nodes = ", ".join(_node(cpus, gpus) for cpus, gpus in train[:4])
        more = f" and {len(train) - 4} nodes more" if len(train) > 4 else ""
        return f"{self.where} has {nodes or 'no CPU core'}{more}"


def _parts(cpus: float, gpus: float, gang: GangSize) -> int:
    """Workers that a node has room for; whole gangs where a gang must lie on one node."""
    workers = min(math.floor(cpus / gang.cpus_per_worker), _by_gpus(gpus, gang.gpus_per_worker))
    return int(workers // gang.workers if gang.placement == "strict_pack" else workers)


def _by_gpus(gpus: float, per_worker: float) -> float:
    """No worker lies on two GPUs: shares of 0.4 leave a fifth of every GPU unused."""
    if not per_worker or gpus == math.inf:
        return math.inf
    if per_worker >= 1:
        return gpus // per_worker
    return math.floor(gpus) * (RAY_GRAIN // max(1, round(per_worker * RAY_GRAIN)))


def _gangs(parts: Iterable[int], gang: GangSize) -> int:
    return sum(parts) // (1 if gang.placement == "strict_pack" else gang.workers)


def _node(cpus: float, gpus: float) -> str:
    gpu = f" and {gpus:g} GPU(s)" if 0 < gpus < math.inf else ""
    return f"{cpus:g} CPU core(s){gpu}"


def this_machine() -> Capacity:
    """As far as it is known before Ray has counted the GPUs."""
    return Capacity(nodes=((os.cpu_count() or 1, math.inf),), where="this machine")


def check_fits(gang: GangSize, capacity: Capacity) -> None:
    """Raises:
    UserError: one gang needs more than there is and can come; nothing was started.
    """
    if fits(gang, capacity) or can_come(gang, capacity):
        return
    grown = f", and can grow to {capacity.growth}" if capacity.growth is not None else ""
    raise UserError(
        f"resources.workers: one trial needs {needs(gang)}, and {capacity}{grown}: lower "
        "resources.workers or resources.cpus_per_worker, or give --address of a larger Ray cluster"
    )


def needs(gang: GangSize) -> str:
    """In words."""
    each = _node(gang.cpus_per_worker, gang.gpus_per_worker)
    where = "all on one node" if gang.placement == "strict_pack" else "every worker on one node"
    return f"{gang.workers} worker(s) with {each} each, {where}"


def fits(gang: GangSize, capacity: Capacity) -> bool:
    return capacity.gangs(gang) >= 1


def can_come(gang: GangSize, capacity: Capacity) -> bool:
    """Whether an autoscaler may make room for a gang, as far as it says."""
    growth = capacity.growth
    return growth is not None and (not growth.known or growth.gangs(gang) >= 1)


def gangs_that_fit(gang: GangSize, capacity: Capacity) -> int:
    """At once, and at least one."""
    return max(1, capacity.gangs(gang))


def trials_at_once(
    gang: GangSize, capacity: Capacity, *, most: int | None, studies: int = 1, place: int = 0
) -> int:
    """How many trials of a study may run or wait for room, at least one.

    A cluster grows for what waits, so more are handed out than fit now: as many as an autoscaler
    can make room for, or twice as many where it does not say. Several studies have equal shares,
    and the older ones what is left over.

    Args:
        most: what the user allows; where nothing else is known, a cluster may grow that far.
        studies: under way on this cluster, with this one.
        place: of this one among them, the oldest first.
    """
    now = gangs_that_fit(gang, capacity)
    if capacity.growth is None:
        room = now if studies > 1 else max(now, most or 0)
    elif capacity.growth.known:
        room = max(now, min(capacity.growth.gangs(gang), now + AHEAD))
    else:
        room = 2 * now
    share = max(1, room // studies + (place < room % studies))
    return share if most is None else min(most, share)
