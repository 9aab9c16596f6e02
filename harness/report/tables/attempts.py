"""What the machines did: which took part, which attempts failed, and what that cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from harness.analysis.machines import hardware
from harness.analysis.study_results import StudyResults
from harness.report import numbers
from harness.report.elements import Table, left, right, table, whole, wide
from harness.runs.attempt_story import Attempt, latest_history, time_lost_s
from harness.runs.snapshot import TrialSnapshot

MOST_HOSTS = 4
"""Names of more hosts than these are a number."""


def machine_facts(study: StudyResults) -> tuple[tuple[str, str], ...]:
    """Hosts, hardware and attempts of the trials; empty where no attempt was recorded."""
    histories = [latest_history(trial.attempts) for trial in study.distinct()]
    hosts = hosts_of([attempt for attempts in histories for attempt in attempts])
    if not hosts:
        return ()
    failed = sum(attempt.failed for attempts in histories for attempt in attempts)
    total = sum(len(attempts) for attempts in histories)
    return (
        ("hosts" if len(hosts) > 1 else "host", _named(hosts)),
        ("trained with", hardware(study)),
        ("attempts", f"{total}, of which {failed} failed" if failed else f"{total}, none failed"),
    )


def hosts_of(attempts: Sequence[Attempt]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(host for attempt in attempts for host in attempt.hosts))


def _named(hosts: Sequence[str]) -> str:
    if len(hosts) <= MOST_HOSTS:
        return ", ".join(hosts)
    return f"{', '.join(hosts[:MOST_HOSTS])} and {len(hosts) - MOST_HOSTS} more"


def machines(study: StudyResults) -> Table | None:
    """Every host with every kind of hardware; None where there was but one, and nothing failed."""
    counts: Counter[tuple[str, str]] = Counter()
    failed: Counter[tuple[str, str]] = Counter()
    trials: dict[tuple[str, str], set[str]] = {}
    for trial in study.distinct():
        for attempt in latest_history(trial.attempts):
            for place in _places(attempt):
                counts[place] += 1
                failed[place] += attempt.failed
                trials.setdefault(place, set()).add(trial.key)
    if len(counts) < 2 and not failed.total():
        return None
    rows = [
        (hosts, workers, str(len(trials[hosts, workers])), str(count), str(failed[hosts, workers]))
        for (hosts, workers), count in sorted(counts.items())
    ]
    columns = [*left("hosts", "workers on"), *right("trials", "attempts", "failed")]
    note = (
        "Of the training runs that the results rest on, those of a search and those without an "
        "outcome included. What the machines do changes no outcome: an attempt that failed is "
        "tried again, from its last checkpoint where there is one."
    )
    return table("What the machines did", columns, rows, note=note) if rows else None


def _places(attempt: Attempt) -> Iterator[tuple[str, str]]:
    if attempt.began is None or not attempt.places:
        yield numbers.MISSING, numbers.MISSING
        return
    devices = Counter(place.device for place in attempt.places)
    on = ", ".join(f"{count} × {device}" for device, count in sorted(devices.items()))
    yield _named(attempt.hosts), on


def failed_attempts(study: StudyResults) -> Table | None:
    """Every trial of which an attempt failed, whatever became of it; None without any."""
    names = study.trial_names()
    histories = [(trial, latest_history(trial.attempts)) for trial in study.distinct()]
    rows = [
        _row(names[trial.planned], trial, attempts)
        for trial, attempts in histories
        if any(attempt.failed for attempt in attempts)
    ]
    columns = [*left("trial"), *right("attempts"), whole("failed"), *left("host")]
    columns += [*right("resumed at step", "time lost"), *left("outcome"), wide("last cause")]
    note = (
        "Time lost: training that was in vain, of each failed attempt the share of its steps that "
        "the next one did again. Waiting for machines is not in it. 0: started again from the "
        "first step. optbench logs tells every attempt."
    )
    return table("Attempts that failed", columns, rows, note=note) if rows else None


def _row(name: str, trial: TrialSnapshot, attempts: Sequence[Attempt]) -> tuple[str, ...]:
    failed = [attempt for attempt in attempts if attempt.failed]
    after = [attempt.began.resumed_step for attempt in attempts[1:] if attempt.began is not None]
    last = failed[-1].ended
    causes = (last.cause if last else "").strip().splitlines()
    return (
        name,
        str(len(attempts)),
        counted_ends(failed),
        _named(hosts_of(failed)) or numbers.MISSING,
        ", ".join(map(str, after)) or numbers.MISSING,
        numbers.duration(time_lost_s(attempts)),
        "missing" if trial.outcome is None else trial.state.replace("_", " "),
        causes[0] if causes else numbers.MISSING,
    )


def counted_ends(attempts: Sequence[Attempt]) -> str:
    """`worker died 2, hung 1`: the most frequent first."""
    ends = Counter(attempt.ended.end for attempt in attempts if attempt.ended is not None)
    return ", ".join(f"{end.replace('_', ' ')} {count}" for end, count in ends.most_common())


def tried_again(study: StudyResults) -> list[Attempt]:
    """Failed attempts that another one came after."""
    histories = (latest_history(trial.attempts) for trial in study.distinct())
    return [attempt for attempts in histories for attempt in attempts[:-1] if attempt.failed]
