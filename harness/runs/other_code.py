"""Trials of a study that another version of the code has trained than the one that goes on."""

from __future__ import annotations

from collections import Counter

from harness.runs.folder import StudyFolder
from harness.study.code_version import code_sha256, code_version
from harness.study.plan import Plan
from harness.training.records import Outcome


def trained_by_other(outcome: Outcome, code: str) -> bool:
    """Whether the run came to an end by code of another hash; a failure has none."""
    return outcome.outcome in ("completed", "diverged") and outcome.code_sha256 != code


def other_code_notice(folder: StudyFolder, plan: Plan) -> str | None:
    """What a person should decide before training goes on; None where all is of one code.

    A finished study stays what it is: nothing is said of it, whatever code its report is made by.
    """
    keys = {trial.key for trial in plan.trials if trial.phase != "tuning"}
    outcomes = {key: folder.trial(key).outcome() for key in keys}
    others: Counter[str] = Counter()
    for outcome in outcomes.values():
        if outcome is not None and trained_by_other(outcome, code_sha256()):
            others[_named(outcome.code_version, outcome.code_sha256)] += 1
    if not others or None not in outcomes.values():
        return None
    listed = " and ".join(f"{count} by {name}" for name, count in others.most_common())
    return (
        f"finished trials were trained by other code than this ({_this()}): {listed}. What is "
        "trained now is not paired with them. --retrain-other-code trains them again; analysis."
        'pairing = "paired" accepts them, and the report says that no certificate proves it'
    )


def _this() -> str:
    return _named(code_version(), code_sha256())


def _named(version: str | None, sha256: str | None) -> str:
    if version is None or sha256 is None:
        return "code that was not recorded"
    return f"{version}, sources {sha256[:8]}"
