"""How far a study is, from its files: for the terminal and as plain values."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.runs.snapshot import StudySnapshot


def status_values(study: StudySnapshot) -> dict[str, Any]:
    """Every planned trial with its state, step and loss."""
    names = study.trial_names()
    trials = {
        names[trial.planned]: {
            "phase": trial.planned.phase,
            "state": trial.state,
            "step": trial.last.step if trial.last else 0,
            "validation_loss": trial.last.validation_loss if trial.last else None,
        }
        for trial in study.trials
    }
    return {"study": study.folder.path.name, "trials": trials}


def render_status(status: dict[str, Any]) -> RenderableType:
    """The table of `optbench status`, with the counts under it."""
    table = Table("trial", "phase", "state", "step", "validation loss", title=status["study"])
    for name, row in status["trials"].items():
        loss = row["validation_loss"]
        shown = "-" if loss is None else f"{loss:.4f}"
        table.add_row(name, row["phase"], row["state"], str(row["step"]), shown)
    counts = Counter(row["state"] for row in status["trials"].values())
    return Group(table, Text(", ".join(f"{count} {state}" for state, count in counts.items())))
