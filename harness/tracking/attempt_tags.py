"""Attempts as tags of a trial's run: how often it was tried, where, and why a try ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.analysis.hardware import hardware_of_attempt
from harness.runs.attempts import AttemptBegan, AttemptEnded, AttemptEvent, WorkerPlace

MOST_ATTEMPTS = 20
"""The latest ones; on machines that are taken away at any time there may be hundreds."""
LONGEST_CAUSE = 500


def attempt_tags(events: Sequence[AttemptEvent], *, training: bool = False) -> dict[str, str]:
    """`attempts`, `attempt.1`, `attempt.2` .., and `hosts`, `devices`, `hardware` of the latest.

    `hardware` does not say which of several equal devices it was, so the UI can group by it. Empty
    for a trial of an older version, which recorded no attempts.

    Args:
        training: a driver may have the trial in hand: an attempt without an end goes on.
    """
    began = {event.attempt: event for event in events if isinstance(event, AttemptBegan)}
    ended = {event.attempt: event for event in events if isinstance(event, AttemptEnded)}
    numbers = sorted({*began, *ended})
    if not numbers:
        return {}
    tags = {"attempts": str(len(numbers))}
    for number in numbers[-MOST_ATTEMPTS:]:
        over = not training or number != numbers[-1]
        tags[f"attempt.{number}"] = _sentence(began.get(number), ended.get(number), over=over)
    if (latest := began.get(numbers[-1])) and latest.places:
        tags["hosts"] = ", ".join(dict.fromkeys(place.host for place in latest.places))
        tags["devices"] = _counted([place.device for place in latest.places])
        tags["hardware"] = hardware_of_attempt(latest, {}).words
    return tags


def _sentence(began: AttemptBegan | None, ended: AttemptEnded | None, *, over: bool) -> str:
    if ended is not None:
        text = f"{ended.end} at step {ended.step}"
        if ended.cause:
            text += f": {ended.cause.strip().splitlines()[0][:LONGEST_CAUSE]}"
    else:
        text = "the run ended first" if over else "running"
    if began is None:
        return text
    if began.resumed_step:
        text += f"; resumed at step {began.resumed_step}"
    return text + (f"; on {_hosts(began.places)}" if began.places else "")


def _hosts(places: Sequence[WorkerPlace]) -> str:
    return _counted([place.host for place in places])


def _counted(names: Sequence[str]) -> str:
    """`host-a (2), host-b`: a name that occurs several times with its count."""
    counts = Counter(names)
    return ", ".join(name if n == 1 else f"{name} ({n})" for name, n in counts.items())
