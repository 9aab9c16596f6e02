"""How far a suite is, from the files of its tasks: for the terminal and as plain values."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.report.terminal.status import OPEN, driver_sentence, driver_values, status_values
from harness.runs.folder import StudyFolder
from harness.runs.snapshot import load_snapshot
from harness.runs.suite_folder import SuiteFolder
from harness.runs.suite_plan import load_suite_plan


def suite_status_values(folder: SuiteFolder) -> dict[str, Any]:
    """The driver, and of every task what `optbench status` says of a study."""
    plan = load_suite_plan(folder)
    tasks = {t.name: status_values(load_snapshot(folder.task(t.name))) for t in plan.tasks}
    driver = driver_values(StudyFolder(folder.path).owner())
    return {"suite": plan.name, "driver": driver, "tasks": tasks}


def all_trials(status: dict[str, Any]) -> dict[str, Any]:
    """What a suite has of a study: its driver, and the trials of all tasks."""
    trials = {
        f"{task}: {name}": row
        for task, own in status["tasks"].items()
        for name, row in own["trials"].items()
    }
    return {"driver": status["driver"], "trials": trials}


def render_suite_status(status: dict[str, Any]) -> RenderableType:
    """A row for each task, with the counts of its trials by their state."""
    table = Table("task", "trials", "states", "running", title=Text(status["suite"]))
    for task, own in status["tasks"].items():
        rows = own["trials"]
        counts = Counter(row["state"] for row in rows.values())
        done = sum(count for state, count in counts.items() if state not in OPEN)
        running = [name for name, row in rows.items() if row["state"] == "running"]
        table.add_row(
            Text(task),
            f"{done}/{len(rows)}",
            ", ".join(f"{count} {state}" for state, count in counts.items()),
            Text(", ".join(running)),
        )
    whole = all_trials(status)
    dead = status["driver"]["state"] == "dead"
    return Group(
        table,
        Text(driver_sentence(whole), style="yellow" if dead else ""),
        Text(f"One task, trial by trial: optbench status {status['suite']}/TASK"),
    )
