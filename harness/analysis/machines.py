"""Whether the times of a study's trials compare, and what to say where they do not.

Where a trial runs is no part of what it is: the trials of one study may have run with 2 and with 4
workers, or on several kinds of devices. Losses do not care, times do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from harness.analysis.hardware import Hardware
from harness.analysis.study_results import StudyResults
from harness.runs.snapshot import TrialSnapshot


def times_compare(study: StudyResults, trials: Iterable[TrialSnapshot]) -> bool:
    """Whether these trials had the same hardware, each all along and for itself.

    What was recorded for none of them is taken to be alike.
    """
    kinds = study.trained_on
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
    kinds = study.trained_on
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
    kinds = study.trained_on
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
    counts = [kind.workers for kinds in study.trained_on.values() for kind in kinds]
    return max(counts, default=study.settings.resources.workers)
