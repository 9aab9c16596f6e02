"""Decides a published study again from its results.csv, without training.

    python studies/decide_again.py muon-ablation
    python studies/publish.py muon-ablation --runs-dir runs/decided-again --only-verdicts

makes a folder in which every trial has the outcome that its line of the table says, and a report of
it. What only the runs themselves know (curves, router loads, routes) is not in a table: those parts
of the report stay empty.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.analysis.study_analysis import analyse_study
from harness.report.terminal.console import PlainConsole
from harness.report.terminal.study import render_study
from harness.report.write import write_report
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import freeze
from harness.study.load import load_study
from harness.study.plan import expand, make_plan
from harness.training.records import Outcome, Report

HERE = Path(__file__).parent
UNKNOWN_DATA = "0" * 64
"""A table does not say which tokens its runs read; the hashes of their batches stand in it."""

COSTS = (
    "train_time_s",
    "step_time_s",
    "tokens_per_s",
    "evaluation_time_s",
    "startup_time_s",
    "peak_memory_bytes",
)
UNKNOWN: dict[str, Any] = {
    "train_loss": None,
    "learning_rate": 0.0,
    "gradient_norm": None,
    "router_load": [],
    "dead_experts": 0,
    "counters": {},
}
"""What a report has and a table has not; no section of the report is made of it."""


def ended(table: Path) -> Iterator[tuple[tuple[str, int], Outcome, Report]]:
    """Each confirmation run of the table: variant and seed, how it ended, its last report."""
    with table.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            if line["phase"] != "confirmation":
                continue
            number = {name: float(cell) for name, cell in line.items() if _is_number(cell)}
            at_the_end = {
                "tokens": int(number["tokens"]),
                "validation_loss": number.get("value"),
                "validation_accuracy": number.get("accuracy"),
            }
            outcome = {
                "outcome": line["outcome"],
                "reason": line["reason"] or None,
                "step": int(number["steps"]),
                "initial_parameters_sha256": line["initial_sha256"] or None,
                "batches_sha256": line["batches_sha256"] or None,
                "wall_time_s": number.get("wall_time_s"),
            }
            report = UNKNOWN | {name: number[name] for name in COSTS} | {"step": outcome["step"]}
            yield (
                (line["variant"], int(line["seed"])),
                Outcome.model_validate(at_the_end | outcome),
                Report.model_validate(at_the_end | report),
            )


def _is_number(cell: str | None) -> bool:
    try:
        float(cell or "")
    except ValueError:
        return False
    return True


def main(
    study: Annotated[str, typer.Argument(help="name of a study file under studies/")],
    folder: Annotated[
        str | None, typer.Option(help="folder of its table, default: its name")
    ] = None,
    runs_dir: Annotated[Path, typer.Option(help="where the folder is made")] = Path(
        "runs/decided-again"
    ),
) -> None:

    source = HERE / f"{study}.toml"
    settings = load_study(source)
    target = StudyFolder(runs_dir / settings.name)
    plan, specs = make_plan(settings, UNKNOWN_DATA), expand(settings, UNKNOWN_DATA)
    freeze(target, plan, source=source)
    keys = {
        (trial.variant, trial.seed): trial.key
        for trial in plan.trials
        if trial.phase == "confirmation"
    }
    for run, outcome, report in ended(HERE / (folder or study) / "results.csv"):
        trial = target.trial(keys[run])
        trial.start(specs[keys[run]])
        trial.append(report)
        trial.finish(outcome)
    results = analyse_study(target)
    write_report(results)
    PlainConsole().print(render_study(results))


if __name__ == "__main__":
    typer.run(main)
