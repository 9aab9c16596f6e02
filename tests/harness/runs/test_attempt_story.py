"""The attempts of a trial as a story: what was lost, and which of them its files are of."""

from __future__ import annotations

from collections.abc import Callable

from made_up_attempts import on

from harness.runs.attempt_story import attempts_of, latest_history, time_lost_s
from harness.runs.attempts import AttemptBegan, AttemptEvent
from harness.runs.folder import StudyFolder
from harness.runs.snapshot import TrialSnapshot, load_snapshot

Write = Callable[..., StudyFolder]
TWICE = {("muon", 1): ("worker_died", "hung")}


def muon_1(folder: StudyFolder) -> TrialSnapshot:
    return next(trial for trial in load_snapshot(folder).of("muon") if trial.seed == 1)


def test_a_snapshot_holds_the_attempts(made_up_study: Write) -> None:
    trial = muon_1(made_up_study(seeds=(0, 1), ends=TWICE))
    assert [attempt.number for attempt in attempts_of(trial.attempts)] == [1, 2, 3]
    assert trial.completed


def test_only_steps_that_are_done_again_are_lost(made_up_study: Write) -> None:
    """Of 120 steps both attempts came to 60 in a minute, and the next ones went on from 40."""
    attempts = attempts_of(muon_1(made_up_study(seeds=(0, 1), ends=TWICE)).attempts)
    assert time_lost_s(attempts) == 60 * 20 / 60 + 60 * 20 / 20
    assert time_lost_s(attempts[:1]) is None, "nobody knows yet what the next attempt goes on from"
    assert time_lost_s(attempts[2:]) is None, "nothing failed"


def test_attempts_of_other_code_are_of_other_files(made_up_study: Write) -> None:
    events: list[AttemptEvent] = []
    for event in muon_1(made_up_study(seeds=(0, 1), ends=TWICE)).attempts:
        if isinstance(event, AttemptBegan):
            code = "old" if event.attempt == 1 else "new"
            event = on(event).model_copy(update={"code_sha256": code})
        events.append(event)
    assert [attempt.number for attempt in latest_history(events)] == [2, 3]
