"""Which trial a person means: its key, the beginning of it, or VARIANT/SEED."""

from __future__ import annotations

import re

from harness.errors import UserError
from harness.runs.snapshot import StudySnapshot, TrialSnapshot

SHOWN = 12
_KEY = re.compile("[0-9a-f]{1,16}")


def find_trial(study: StudySnapshot, text: str) -> TrialSnapshot:
    """The one trial of the study that `text` names.

    VARIANT/SEED is the trial that measures; those of a search and of a horizon have their keys.

    Raises:
        UserError: none or several, with what there is.
    """
    found = _by_cell(study, text) if "/" in text else _by_key(study, text)
    if len(found) == 1:
        return found[0]
    names = study.trial_names()
    shown = found or study.distinct()
    listed = ", ".join(f"{trial.key[:8]} ({names[trial.planned]})" for trial in shown[:SHOWN])
    more = f" and {len(shown) - SHOWN} more (optbench status)" if len(shown) > SHOWN else ""
    wrong = "names several trials" if found else "names no trial of this study"
    raise UserError(
        f"{text!r} {wrong}: give a key, its beginning, or VARIANT/SEED such as "
        f"{study.baseline}/{study.seeds[0]}; there {'are' if listed else 'is'} "
        f"{listed or 'no trial yet'}{more}"
    )


def _by_key(study: StudySnapshot, text: str) -> list[TrialSnapshot]:
    if not _KEY.fullmatch(text):
        return []
    return [trial for trial in study.distinct() if trial.key.startswith(text)]


def _by_cell(study: StudySnapshot, text: str) -> list[TrialSnapshot]:
    variant, _, seed = text.rpartition("/")
    return [trial for trial in study.of(variant) if str(trial.seed) == seed]
