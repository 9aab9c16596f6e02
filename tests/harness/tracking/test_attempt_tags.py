"""Attempts of a trial, as its run in MLflow tells them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.analysis.study_results import load_results
from harness.runs.attempts import AttemptBegan, AttemptEnded, AttemptEvent, WorkerPlace
from harness.runs.folder import StudyFolder
from harness.tracking.attempt_tags import MOST_ATTEMPTS, attempt_tags
from harness.tracking.run_records import records


def began(attempt: int, *hosts: str, resumed_step: int = 0) -> AttemptBegan:
    places = tuple(
        WorkerPlace(rank=rank, host=host, address="10.0.0.1", node="n", pid=1, device="cpu")
        for rank, host in enumerate(hosts)
    )
    return AttemptBegan(
        attempt=attempt,
        at="2026-01-01T00:00:00+00:00",
        workers=len(hosts),
        cpus_per_worker=1,
        gpus_per_worker=0,
        places=places,
        resumed_step=resumed_step,
    )


def ended(attempt: int, end: Any, step: int, cause: str = "") -> AttemptEnded:
    return AttemptEnded(
        attempt=attempt, at="2026-01-01T00:00:00+00:00", end=end, step=step, cause=cause
    )


TWICE: list[AttemptEvent] = [
    began(1, "host-a", "host-a", "host-b"),
    ended(1, "worker_died", 40, "worker 1 was killed by SIGKILL"),
    began(2, "host-a", "host-c", resumed_step=30),
]


def test_each_attempt_says_why_and_where_it_ended() -> None:
    assert attempt_tags(TWICE, training=True) == {
        "attempts": "2",
        "attempt.1": "worker_died at step 40: worker 1 was killed by SIGKILL; "
        "on host-a (2), host-b",
        "attempt.2": "running; resumed at step 30; on host-a, host-c",
        "hosts": "host-a, host-c",
        "devices": "cpu (2)",
        "hardware": "2 workers on cpu",
    }


def test_an_older_trial_has_no_attempts() -> None:
    assert attempt_tags([]) == {}


def test_an_attempt_whose_driver_died_is_over() -> None:
    tags = attempt_tags([began(1, "a"), began(2, "a"), ended(2, "outcome", 100)])
    assert tags["attempt.1"] == "the run ended first; on a"
    assert tags["attempt.2"] == "outcome at step 100; on a"


def test_of_hundreds_of_attempts_the_latest_are_told() -> None:
    many: list[AttemptEvent] = [ended(n, "node_lost", n) for n in range(1, 301)]
    tags = attempt_tags(many)
    assert tags["attempts"] == "300"
    assert len(tags) == 1 + MOST_ATTEMPTS
    assert "attempt.300" in tags


def test_a_trial_without_a_report_is_there_once_it_was_tried(
    made_up_study: Callable[..., StudyFolder],
) -> None:
    folder = made_up_study(seeds=(0, 1), unfinished=frozenset({("muon", 1)}))
    waiting = next(t for t in load_results(folder).trials if not t.reports)
    assert "muon seed 1" not in {record.name for record in records(load_results(folder))}
    for event in TWICE:
        folder.trial(waiting.key).append_attempt(event)
    (record,) = (r for r in records(load_results(folder)) if r.name == "muon seed 1")
    assert record.status == "KILLED"
    assert record.tags["attempts"] == "2"
