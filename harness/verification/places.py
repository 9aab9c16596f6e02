"""Where a check runs: a backend, and how many workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import UserError

BACKENDS = {
    "ddp": ("ddp", 0),
    "zero0": ("deepspeed", 0),
    "zero1": ("deepspeed", 1),
    "zero2": ("deepspeed", 2),
    "zero3": ("deepspeed", 3),
    "fsdp2": ("fsdp2", 0),
}
"""Name here -> `training.backend` and `training.zero_stage` of a study file."""

SIZES = (1, 2, 4)


@dataclass(frozen=True)
class Place:
    """A backend and its number of workers; one worker is the plainest backend, without a gang."""

    backend: str
    workers: int

    @property
    def label(self) -> str:
        return "one process" if self.workers == 1 else f"{self.backend} x {self.workers}"


ALONE = Place("ddp", 1)


def places(backends: Sequence[str], workers: Sequence[int]) -> list[Place]:
    """One process if 1 is among `workers`, and each backend with each larger number.

    Raises:
        UserError: an unknown backend, or a number of workers that the batches do not divide by.
    """
    for backend in backends:
        if backend not in BACKENDS:
            raise UserError(f"--backend {backend!r}: choose among {', '.join(BACKENDS)}")
    for count in workers:
        if count not in SIZES:
            raise UserError(f"--workers {count}: choose among {', '.join(map(str, SIZES))}")
    alone = [ALONE] if 1 in workers else []
    gangs = [Place(b, n) for n in sorted(set(workers) - {1}) for b in dict.fromkeys(backends)]
    if not (alone or gangs):
        raise UserError("no backend and no number of workers is left: name at least one")
    return alone + gangs
