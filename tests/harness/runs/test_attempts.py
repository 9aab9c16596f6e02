"""What of the attempts of a trial becomes its outcome, and what an attempt finds in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from made_up import MadeUpStudy
from made_up_attempts import forget_attempts

from harness.runs.attempts import AttemptBegan, AttemptEnded, endings_by, repeats
from harness.runs.folder import StudyFolder, TrialFolder
from harness.study.trial import TrialSpec


def ended(end: str, signature: str = "", attempt: int = 1) -> AttemptEnded:
    return AttemptEnded(attempt=attempt, at="now", end=end, signature=signature)  # type: ignore[arg-type]


def began(attempt: int = 1, code: str = "this", **values: Any) -> AttemptBegan:
    resources = {"workers": 1, "cpus_per_worker": 1, "gpus_per_worker": 0}
    return AttemptBegan(attempt=attempt, at="now", code_sha256=code, **resources, **values)


def test_only_what_the_training_did_twice_is_an_outcome() -> None:
    assert repeats([ended("error", "ValueError"), ended("error", "ValueError")])
    assert repeats([ended("error", "A"), ended("worker_died"), ended("error", "A")])
    assert repeats([ended("out_of_memory", "here"), ended("out_of_memory", "there")])
    assert not repeats([ended("error", "A")])
    assert not repeats([ended("error", "A"), ended("error", "B")])
    assert not repeats([ended("error", "A"), ended("error", "A"), ended("machine", "A")])
    for machine in ("worker_died", "hung", "node_lost", "machine", "stopped"):
        assert not repeats([ended(machine, "alike")] * 5)


def test_attempts_of_other_code_say_nothing_about_this_one() -> None:
    events = [began(1, "other"), ended("error", "A", 1), began(2), ended("error", "A", 2)]
    assert [e.attempt for e in endings_by("this", events)] == [2]


def a_trial(made_up: MadeUpStudy, runs: Path) -> tuple[TrialFolder, TrialSpec]:
    folder = StudyFolder(made_up.write(runs).path)
    trial = next(folder.trial(p.parent.name) for p in folder.path.glob("trials/*/spec.json"))
    spec = trial.spec()
    assert spec is not None
    forget_attempts(folder)
    return trial, spec


def test_an_attempt_keeps_what_its_own_code_reported(tmp_path: Path) -> None:
    trial, spec = a_trial(MadeUpStudy(), tmp_path)
    trial.begin(spec, began(1))
    assert trial.reports() == [], "nobody knows which code had reported"
    report = a_trial(MadeUpStudy(name="again"), tmp_path)[0].reports()[0]
    trial.append(report)
    trial.begin(spec, began(2))
    assert trial.reports() == [report]
    trial.begin(spec, began(3, "other"))
    assert trial.reports() == []


def test_an_attempt_whose_driver_died_has_an_end(tmp_path: Path) -> None:
    trial, spec = a_trial(MadeUpStudy(), tmp_path)
    trial.begin(spec, began(1))
    trial.begin(spec, began(2))
    first, end, second = trial.attempts()
    assert isinstance(first, AttemptBegan)
    assert isinstance(end, AttemptEnded)
    assert (end.attempt, end.end) == (1, "stopped")
    assert isinstance(second, AttemptBegan)
