"""On what each trial was trained, by its attempts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.runs.attempt_story import latest_history
from harness.runs.attempts import AttemptBegan
from harness.runs.snapshot import TrialSnapshot

_DEVICE = re.compile(r"^(cpu|cuda(:[\w-]+)?)\s+")


@dataclass(frozen=True, order=True, kw_only=True)
class Hardware:
    """What the times of a trial depend on. `threads` of a worker is 0 on a GPU.

    On a GPU that others used as well they depend on those too: no two of them compare.
    """

    workers: int
    device: str
    threads: int = 0
    gpu_share: float = 1.0

    @property
    def words(self) -> str:
        share = f"{self.gpu_share:.0%} of a shared " if self.is_shared else ""
        return f"{self.workers} worker{'s' if self.workers > 1 else ''} on {share}{self.device}"

    @property
    def is_shared(self) -> bool:
        return self.gpu_share < 1

    @property
    def words_in_full(self) -> str:
        cores = f" of {self.threads} core{'s' if self.threads > 1 else ''}"
        return self.words.replace(" on ", f"{cores if self.threads else ''} on ", 1)


def hardware_of(
    trials: Sequence[TrialSnapshot], environment: Mapping[str, Any] | None
) -> dict[str, tuple[Hardware, ...]]:
    """Every kind of hardware that took part in a trial, in order, by its key.

    Empty for a trial that did not train, or that an older version trained.

    Args:
        environment: of the driver, which older versions trust for the name of the processor.
    """
    processors = _processors(trials, environment or {})
    return {trial.key: _kinds(trial, processors) for trial in trials}


def _kinds(trial: TrialSnapshot, processors: Mapping[str, str]) -> tuple[Hardware, ...]:
    found = [
        hardware_of_attempt(attempt.began, processors)
        for attempt in latest_history(trial.attempts)
        if attempt.began is not None and attempt.trained and attempt.places
    ]
    return tuple(dict.fromkeys(found))


def hardware_of_attempt(began: AttemptBegan, processors: Mapping[str, str]) -> Hardware:
    """
    Args:
        processors: names by host, for attempts of older versions, which say `cpu` only.
    """
    devices = {_kind(place.device, place.host, processors) for place in began.places}
    return Hardware(
        workers=began.workers,
        device=" and ".join(sorted(devices)),
        threads=0 if began.gpus_per_worker else began.cpus_per_worker,
        gpu_share=began.gpus_per_worker or 1.0,
    )


def _kind(device: str, host: str, processors: Mapping[str, str]) -> str:
    """`NVIDIA H100` of `cuda:3 NVIDIA H100`; of a processor its name, as far as it is known."""
    if device == "cpu":
        return processors.get(host, "cpu")
    return _DEVICE.sub("", device)


def _processors(trials: Sequence[TrialSnapshot], environment: Mapping[str, Any]) -> dict[str, str]:
    """What the processor of each host is called: attempts of an older version say `cpu` only."""
    names: dict[str, str] = {}
    for trial in trials:
        known = None if trial.outcome is None else trial.outcome.arithmetic
        if known is None or known.device_type != "cpu" or not trial.attempts:
            continue
        places = latest_history(trial.attempts)[-1].places
        names |= {place.host: known.device for place in places if place.rank == 0}
    if not names and environment.get("cpu"):
        return {str(environment.get("hostname")): str(environment["cpu"])}
    return names
