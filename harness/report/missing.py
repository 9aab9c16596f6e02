"""Trials of the plan without an outcome, in words: how many, which, and why."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.study_results import StudyResults
from harness.report.prose import listing, plural
from harness.runs.attempt_story import Attempt, attempts_of
from harness.runs.snapshot import TrialSnapshot

FEW = 3
"""Variants, seeds and reasons that are named; of more, their number."""
NOT_COUNTED = "A missing trial is counted against no variant."


def missing_trials(study: StudyResults) -> tuple[TrialSnapshot, ...]:
    """Those that a verdict waits for: of decided looks none."""
    if study.complete:
        return ()
    return tuple(trial for trial in study.confirmation if trial.outcome is None)


def which_are_missing(trials: Sequence[TrialSnapshot]) -> str:
    """`muon (seeds 2, 3, 4 and 2 more) and adamw (seed 4)`."""
    seeds: dict[str, list[int]] = {}
    for trial in trials:
        seeds.setdefault(trial.variant, []).append(trial.seed)
    parts = [
        f"{variant} (seed{'s' if len(own) > 1 else ''} {_few(list(map(str, own)))})"
        for variant, own in list(seeds.items())[:FEW]
    ]
    if (more := len(seeds) - FEW) > 0:
        parts.append(plural(more, "more variant"))
    return listing(parts)


def _few(names: list[str]) -> str:
    more = len(names) - FEW
    return listing(names if more <= 0 else [", ".join(names[:FEW]), f"{more} more"])


def why_missing(trials: Sequence[TrialSnapshot]) -> list[str]:
    """How the last attempts of the first few ended, and how many trials were never tried."""
    tried = [(trial, attempts_of(trial.attempts)[-1]) for trial in trials if trial.attempts]
    tried.sort(key=lambda pair: not pair[1].failed)
    sentences = [
        f"{trial.variant} seed {trial.seed}: {how_it_ended(attempt)}."
        for trial, attempt in tried[:FEW]
    ]
    if more := len(tried) - len(sentences):
        sentences.append(f"{more} more {'was' if more == 1 else 'were'} tried.")
    if untried := sum(not trial.attempts for trial in trials):
        sentences.append(f"{untried} {'was' if untried == 1 else 'were'} never tried.")
    return sentences


def how_it_ended(attempt: Attempt) -> str:
    """`attempt 3, node lost at step 40: the node of worker 1 is lost`."""
    name = f"attempt {attempt.number}"
    if attempt.ended is None:
        return f"{name} is under way, or its driver died"
    words = attempt.ended.end.replace("_", " ")
    cause = (attempt.ended.cause.strip().splitlines() or [""])[0].rstrip(".")
    return f"{name}, {words} at step {attempt.ended.step}" + (f": {cause}" if cause else "")
