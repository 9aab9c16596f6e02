"""What a machine or a cluster can place at once, and whether a gang fits. Knows nothing of Ray."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Protocol

from harness.errors import UserError


class GangSize(Protocol):
    """What one gang occupies: the `[resources]` of a study."""

    @property
    def workers(self) -> int: ...
    @property
    def cpus_per_worker(self) -> int: ...
    @property
    def gpus_per_worker(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """CPU cores and GPUs of every node, and whose they are. A worker lies on one node."""

    nodes: tuple[tuple[float, float], ...]
    where: str

    def workers(self, gang: GangSize) -> float:
        """How many workers have room at once."""
        return sum(
            min(
                math.floor(cpus / gang.cpus_per_worker),
                math.inf if not gang.gpus_per_worker else gpus / gang.gpus_per_worker,
            )
            for cpus, gpus in self.nodes
        )

    def __str__(self) -> str:
        nodes = ", ".join(_node(cpus, gpus) for cpus, gpus in self.nodes[:4])
        more = f" and {len(self.nodes) - 4} nodes more" if len(self.nodes) > 4 else ""
        return f"{self.where} has {nodes or 'no node'}{more}"


def _node(cpus: float, gpus: float) -> str:
    gpu = f" and {gpus:g} GPU(s)" if 0 < gpus < math.inf else ""
    return f"{cpus:g} CPU core(s){gpu}"


def this_machine() -> Capacity:
    """As far as it is known before Ray has counted the GPUs."""
    return Capacity(nodes=((os.cpu_count() or 1, math.inf),), where="this machine")


def check_fits(gang: GangSize, capacity: Capacity) -> None:
    """Raises:
    UserError: one gang needs more than there is; nothing was started.
    """
    if not fits(gang, capacity):
        each = _node(gang.cpus_per_worker, gang.gpus_per_worker)
        raise UserError(
            f"resources.workers: one trial needs {gang.workers} worker(s) with {each} each, every "
            f"worker on one node, and {capacity}: lower resources.workers or "
            "resources.cpus_per_worker, or give --address of a larger Ray cluster"
        )


def fits(gang: GangSize, capacity: Capacity) -> bool:
    return capacity.workers(gang) >= gang.workers


def gangs_that_fit(gang: GangSize, capacity: Capacity) -> int:
    """At once, and at least one."""
    return max(1, int(capacity.workers(gang) // gang.workers))
