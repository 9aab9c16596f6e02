"""How far a study is, from its files: for the terminal and as plain values."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.runs.attempt_story import attempts_of
from harness.runs.owner import Owner
from harness.runs.snapshot import StudySnapshot, TrialSnapshot

OPEN = ("running", "interrupted", "waiting")


def status_values(study: StudySnapshot) -> dict[str, Any]:
    """The driver, and every planned trial with its state, step, loss, attempts and host.

    A trial that nobody trains any more, but that has reports and no outcome, is `interrupted`.
    """
    names, driver = study.trial_names(), driver_values(study.folder.owner())
    nobody = driver["state"] in ("none", "dead")
    trials = {
        names[trial.planned]: {
            "phase": trial.planned.phase,
            "state": "interrupted" if nobody and trial.state == "running" else trial.state,
            "step": trial.last.step if trial.last else 0,
            "validation_loss": trial.last.validation_loss if trial.last else None,
            **_attempts(trial, nobody=nobody),
        }
        for trial in study.trials
    }
    return {"study": study.folder.name, "driver": driver, "trials": trials}


def _attempts(trial: TrialSnapshot, *, nobody: bool) -> dict[str, Any]:
    """How many there were, and on which hosts one is under way; null: none is."""
    attempts = attempts_of(trial.attempts)
    runs = bool(attempts) and attempts[-1].ended is None and trial.outcome is None and not nobody
    hosts = ", ".join(attempts[-1].hosts) if runs else ""
    return {"attempts": len(attempts), "host": hosts or None}


def is_over(status: dict[str, Any]) -> bool:
    """Whether nothing more will change by itself."""
    if status["driver"]["state"] == "unknown":
        return all(row["state"] not in OPEN for row in status["trials"].values())
    return bool(status["driver"]["state"] != "lives")


def render_status(status: dict[str, Any]) -> RenderableType:
    """The table of `optbench status`, with the counts and the driver under it."""
    headings = ["trial", "phase", "state", "step", "validation loss", "attempts"]
    hosts = any(row["host"] for row in status["trials"].values())
    table = Table(*headings, *["host"] * hosts, title=Text(status["study"]))
    for name, row in status["trials"].items():
        loss = row["validation_loss"]
        shown = "-" if loss is None else f"{loss:.4f}"
        cells = (row["phase"], row["state"], str(row["step"]), shown, str(row["attempts"]))
        table.add_row(Text(name), *cells, *[Text(row["host"] or "")] * hosts)
    counts = Counter(row["state"] for row in status["trials"].values())
    dead = status["driver"]["state"] == "dead"
    return Group(
        table,
        Text(", ".join(f"{count} {state}" for state, count in counts.items())),
        Text(driver_sentence(status), style="yellow" if dead else ""),
    )


def driver_values(owner: Owner | None) -> dict[str, Any]:
    """`state`: lives, dead, unknown (on another host), or none: nobody runs the study."""
    if owner is None:
        return {"state": "none"}
    return {"state": owner.life(), **owner.model_dump(mode="json", exclude={"process_started"})}


def driver_sentence(status: dict[str, Any]) -> str:
    driver = status["driver"]
    if driver["state"] == "none":
        unfinished = any(row["state"] in OPEN for row in status["trials"].values())
        return "nothing runs" + (": run the study again to go on" if unfinished else "")
    who = f"pid {driver['pid']} on host {driver['host']}, started {driver['since']}"
    if driver["state"] == "dead":
        return f"the driver, {who}, no longer lives: run the study again to go on"
    if driver["state"] == "unknown":
        return f"the driver is {who}: only that host can tell whether it still lives"
    return f"the driver runs: {who}"
