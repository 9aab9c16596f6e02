"""outcome.json: how one trial ended, sealed to that trial, its reports and its own words.

Beside the outcome the file says whose it is (`trial_key`), the SHA-256 of the trial's
reports.jsonl, and its own. An outcome of another trial, or a digit that a disk or a hand has
changed, is refused before it can bend a statistic. Files of versions before the seal have none.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter
from pydantic_core import from_json

from harness.runs.files import write_json
from harness.runs.reading import damaged, exists, read_values, validated
from harness.study.trial import canonical_sha256
from harness.training.records import Outcome

_OUTCOME = TypeAdapter(Outcome)


@dataclass(frozen=True)
class SealedOutcome:
    """`reports_sha256` is None in a file of an older version."""

    outcome: Outcome
    reports_sha256: str | None


def write_outcome(path: Path, outcome: Outcome, *, key: str, reports_path: Path) -> None:
    values = from_json(outcome.model_dump_json())
    values |= {"trial_key": key, "reports_sha256": reports_sha256(reports_path)}
    write_json(path, values | {"outcome_sha256": canonical_sha256(values)})


def read_outcome(path: Path, *, key: str, advice: str) -> SealedOutcome | None:
    """None of a trial that has not ended.

    Raises:
        UserError: the file is damaged, was changed, or belongs to another trial.
    """
    if not exists(path):
        return None
    values = read_values(path, advice)
    stated = values.pop("outcome_sha256", None)
    if stated is not None and stated != canonical_sha256(values):
        reason = "it was changed after it was written (its hash does not agree)"
        raise damaged(path, reason, advice)
    owner, reports = values.pop("trial_key", None), values.pop("reports_sha256", None)
    if owner is not None and owner != key:
        raise damaged(path, f"it is the outcome of another trial, {owner}", advice)
    return SealedOutcome(validated(_OUTCOME, values, path, advice), reports)


def reports_sha256(path: Path) -> str:
    """Of a file that is not there as of an empty one."""
    return hashlib.sha256(path.read_bytes() if path.exists() else b"").hexdigest()
