"""What `optbench plan` does with a suite, and every run of one first: data, dtypes, plans."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from harness.cli.preparing import prepare_data, resolved, tell_growth, write_context
from harness.data import TokenDataset
from harness.runs.suite_folder import SuiteFolder, SuitePlan
from harness.runs.suite_plan import freeze_suite, make_suite_plan
from harness.study.plan import Plan, make_plan
from harness.study.study_file import Study
from harness.study.suite_file import Suite


@dataclass(frozen=True, kw_only=True)
class PreparedSuite:
    """A suite with its data and its plans, by the tasks' names; nothing is frozen yet."""

    source: Path
    suite: Suite
    folder: SuiteFolder
    datasets: Mapping[str, TokenDataset]
    plans: Mapping[str, Plan]
    plan: SuitePlan

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(task.name for task in self.suite.tasks)

    def freeze(self, console: Console, *, amend: str | None) -> None:
        """Writes the plans, or checks that those on disk are the same; the folder is locked.

        Raises:
            UserError: the folder holds results of different plans; nothing is overwritten.
        """
        added = freeze_suite(
            self.folder, self.suite, self.plan, self.plans, source=self.source, amend=amend
        )
        for task in self.suite.tasks:
            if task.name in added:
                console.print(Text(f"{task.name}:", style="yellow"))
                tell_growth(self.folder.task(task.name), task.study, console)
            write_context(self.folder.task(task.name), self.datasets[task.name])


def prepare_suite(source: Path, suite: Suite, runs_dir: Path, console: Console) -> PreparedSuite:
    """Its data, its dtypes and its plans.

    Args:
        source: the file of the suite.

    Raises:
        UserError: a task's data does not suffice.
    """
    folder = SuiteFolder(runs_dir / suite.name)
    tasks, datasets, plans, active = [], {}, {}, {}
    told: set[str] = set()
    for task in suite.tasks:
        dataset = prepare_data(task.study, console)
        study, resolution = resolved(task.study, folder.task(task.name), Once(console, told))
        plans[task.name] = make_plan(study, dataset.manifest.sha256, resolution=resolution)
        datasets[task.name] = dataset
        active[task.name] = active_parameters(study, dataset.vocab_size)
        tasks.append(replace(task, study=study))
    suite = replace(suite, tasks=tuple(tasks))
    return PreparedSuite(
        source=source,
        suite=suite,
        folder=folder,
        datasets=datasets,
        plans=plans,
        plan=make_suite_plan(suite, plans, active),
    )


def active_parameters(study: Study, vocab_size: int) -> int:
    """Parameters of the study's model that one token uses."""
    import torch

    from models import build_model, num_active_parameters

    with torch.device("meta"):
        return num_active_parameters(build_model(study.model, vocab_size=vocab_size))


class Once(Console):
    """Prints each text once: what is said of every task alike."""

    def __init__(self, console: Console, told: set[str]) -> None:
        super().__init__()
        self.console, self.told = console, told

    def print(self, *objects: Any, **options: Any) -> None:
        if (text := str(objects)) not in self.told:
            self.told.add(text)
            self.console.print(*objects, **options)


def plan_suite(
    prepared: PreparedSuite,
    *,
    console: Console,
    sigma: float | None,
    draft: bool,
    amend: str | None,
    as_json: bool,
) -> None:
    """Freezes and shows the plans of all tasks, or only shows them."""
    from harness.analysis.plan_summary import summarise_plan
    from harness.report.terminal.plan import render_plan

    folder, plan = prepared.folder, prepared.plan
    if not draft:
        with folder.locked(prepared.names):
            prepared.freeze(console, amend=amend)
    summaries = {
        task.name: summarise_plan(
            task.study, prepared.plans[task.name], folder.task(task.name), sigma=sigma
        )
        for task in prepared.suite.tasks
    }
    if as_json:
        values = {"suite": plan.model_dump(mode="json"), "tasks": summaries}
        print(json.dumps(values, indent=1, allow_nan=False))
        return
    for summary in summaries.values():
        console.print(render_plan(summary))
        console.print()
    console.print(f"{plan.name}: {error_sentence(plan)}", soft_wrap=True)


def error_sentence(plan: SuitePlan) -> str:
    """How the error rate is shared by the tasks."""
    alpha, tasks = plan.settings.alpha, len(plan.tasks)
    return (
        f"{tasks} tasks share an error rate of {alpha:g}: each is decided at {alpha / tasks:.3g}, "
        f"so the probability of any false verdict in any task is at most {alpha:g}"
    )
