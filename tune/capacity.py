"""What a machine or a cluster can place at once, and whether a gang fits. Knows nothing of Ray."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Protocol

from harness.errors import UserError


class GangSize(Protocol):
    """What one gang occupies: the `[resources]` of a study, or a trial's spec."""

    @property
    def workers(self) -> int: ...
    @property
    def cpus_per_worker(self) -> int: ...
    @property
    def gpus_per_worker(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """CPU cores and GPUs, and whose they are."""

    cpus: float
    gpus: float
    where: str


def this_machine() -> Capacity:
    """As far as it is known before Ray has counted the GPUs."""
    return Capacity(cpus=os.cpu_count() or 1, gpus=math.inf, where="this machine")


def check_fits(gang: GangSize, capacity: Capacity) -> None:
    """Raises:
    UserError: one gang needs more than there is; nothing was started.
    """
    for what, each, have in (
        ("CPU cores", gang.cpus_per_worker, capacity.cpus),
        ("GPUs", gang.gpus_per_worker, capacity.gpus),
    ):
        if (need := gang.workers * each) > have:
            raise UserError(
                f"resources.workers: one trial needs {gang.workers} workers x {each} = {need} "
                f"{what} and {capacity.where} has {have:g}: lower resources.workers, or give "
                "--address of a larger Ray cluster"
            )


def gangs_that_fit(gang: GangSize, capacity: Capacity) -> int:
    """At once, and at least one."""
    fit = capacity.cpus // (gang.workers * gang.cpus_per_worker)
    if gang.gpus_per_worker:
        fit = min(fit, capacity.gpus // (gang.workers * gang.gpus_per_worker))
    return max(1, int(fit))
