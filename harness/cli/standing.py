"""How far a study is, from its files alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.results import PlannedTrial, StudyFolder
from harness.study import load_plan
from harness.tuning.labels import search_labels


def standing(folder: StudyFolder) -> dict[str, Any]:
    """Plain values: every planned trial with its state, step and loss.

    Raises:
        UserError: no study there.
    """
    labels = search_labels(folder)
    trials: dict[str, dict[str, Any]] = {}
    for planned in load_plan(folder).trials:
        name = f"{planned.variant} seed {planned.seed}"
        if planned.phase == "tuning":
            name = str(labels[planned.key])
        trials[name] = _state(folder, planned)
    return {"study": folder.path.name, "trials": trials}


def _state(folder: StudyFolder, planned: PlannedTrial) -> dict[str, Any]:
    reports, outcome = folder.trial(planned.key).reports(), folder.trial(planned.key).outcome()
    return {
        "phase": planned.phase,
        "state": outcome.outcome if outcome else ("running" if reports else "waiting"),
        "step": reports[-1].step if reports else 0,
        "validation_loss": reports[-1].validation_loss if reports else None,
    }


def render_standing(now: dict[str, Any]) -> RenderableType:
    """The table of `optbench status`, with the counts under it."""
    table = Table("trial", "phase", "state", "step", "validation loss", title=now["study"])
    for name, row in now["trials"].items():
        loss = row["validation_loss"]
        shown = "-" if loss is None else f"{loss:.4f}"
        table.add_row(name, row["phase"], row["state"], str(row["step"]), shown)
    counts = Counter(row["state"] for row in now["trials"].values())
    return Group(table, Text(", ".join(f"{count} {state}" for state, count in counts.items())))
