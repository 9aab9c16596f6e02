"""On what the trials of a study were trained, by their attempts, and whether their times compare.

Where a trial runs is no part of what it is: the trials of one study may have run with 2 and with 4
workers, or on several kinds of devices. Losses do not care, times do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from harness.analysis.study_results import StudyResults
from harness.runs.attempt_story import latest_history
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


def trained_on(study: StudyResults) -> dict[str, tuple[Hardware, ...]]:
    """Every kind of hardware that took part in a trial, in order, by its key.

    Empty for a trial that did not train, or that an older version trained.
    """
    processors = _processors(study)
    return {trial.key: _kinds(trial, processors) for trial in study.trials}


def _kinds(trial: TrialSnapshot, processors: dict[str, str]) -> tuple[Hardware, ...]:
    found = []
    for attempt in latest_history(trial.attempts):
        if attempt.began is None or not attempt.trained or not attempt.places:
            continue
        devices = {_kind(place.device, place.host, processors) for place in attempt.places}
        gpus = attempt.began.gpus_per_worker
        found.append(
            Hardware(
                workers=attempt.began.workers,
                device=" and ".join(sorted(devices)),
                threads=0 if gpus else attempt.began.cpus_per_worker,
                gpu_share=gpus or 1.0,
            )
        )
    return tuple(dict.fromkeys(found))


def _kind(device: str, host: str, processors: dict[str, str]) -> str:
    """`NVIDIA H100` of `cuda:3 NVIDIA H100`; of a processor its name, as far as it is known."""
    if device == "cpu":
        return processors.get(host, "cpu")
    return _DEVICE.sub("", device)


def _processors(study: StudyResults) -> dict[str, str]:
    """What the processor of each host is called: attempts of an older version say `cpu` only."""
    names: dict[str, str] = {}
    for trial in study.trials:
        known = None if trial.outcome is None else trial.outcome.arithmetic
        if known is None or known.device_type != "cpu" or not trial.attempts:
            continue
        places = latest_history(trial.attempts)[-1].places
        names |= {place.host: known.device for place in places if place.rank == 0}
    environment = study.environment or {}
    if not names and environment.get("cpu"):
        return {str(environment.get("hostname")): str(environment["cpu"])}
    return names


def times_compare(study: StudyResults, trials: Iterable[TrialSnapshot]) -> bool:
    """Whether these trials had the same hardware, each all along and for itself.

    What was recorded for none of them is taken to be alike.
    """
    kinds = trained_on(study)
    found = {kinds[trial.key] for trial in trials}
    alike = len(found) <= 1 and all(len(several) <= 1 for several in found)
    return alike and not any(kind.is_shared for several in found for kind in several)


def seconds_compare(study: StudyResults, variant: str) -> bool:
    """Whether a ratio of the variant's times to the baseline's means something.

    In pairs the two runs of each seed must have had the same hardware, else all runs.
    """
    comparison, (own, base) = study.comparison(variant), study.compared(variant)
    if comparison is None or not comparison.paired:
        return times_compare(study, [*own, *base])
    return all(times_compare(study, pair) for pair in zip(own, base, strict=True))


def why_no_times(study: StudyResults) -> str | None:
    """What a reader of times has to know; None where those of all completed trials compare."""
    completed = [trial for trial in study.confirmation if trial.completed]
    if times_compare(study, completed):
        return None
    kinds = trained_on(study)
    if any(kind.is_shared for trial in completed for kind in kinds[trial.key]):
        return (
            f"Trials shared a GPU ({hardware(study)}): their times depend on what else ran there, "
            "and do not compare"
        )
    return (
        f"Not all trials had the same hardware ({hardware(study)}): times of trials on different "
        "hardware do not compare"
    )


def hardware(study: StudyResults) -> str:
    """What the times were measured on: `2 workers on a processor`.

    By the attempts of the completed trials, or of all where none completed; for a study of an older
    version by its settings and the environment of its driver.
    """
    kinds = trained_on(study)
    trials = [trial for trial in study.confirmation if trial.completed] or study.distinct()
    counts = Counter(kind for trial in trials for kind in kinds[trial.key])
    if not counts:
        return _as_planned(study)
    unknown = sum(trial.completed and not kinds[trial.key] for trial in trials)
    if len(counts) == 1 and not unknown:
        return next(iter(counts)).words
    several = len({kind.words for kind in counts}) < len(counts)
    parts = [
        f"{kind.words_in_full if several else kind.words} ({_trials(n)})"
        for kind, n in sorted(counts.items())
    ]
    if unknown:
        parts.append(f"hardware that was not recorded ({_trials(unknown)})")
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _trials(count: int) -> str:
    return f"{count} trial{'' if count == 1 else 's'}"


def _as_planned(study: StudyResults) -> str:
    environment, resources = study.environment or {}, study.settings.resources
    gpus = environment.get("gpus") or []
    on_gpu = resources.gpus_per_worker > 0
    device = gpus[0] if on_gpu and gpus else environment.get("cpu") or "unrecorded hardware"
    return Hardware(workers=resources.workers, device=device).words


def most_workers(study: StudyResults) -> int:
    """The largest number that any trial had."""
    counts = [kind.workers for kinds in trained_on(study).values() for kind in kinds]
    return max(counts, default=study.settings.resources.workers)
