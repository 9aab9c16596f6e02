"""suite.json: frozen before the first trial, with the plans of its tasks; checked when it is read.

What may be added to a study's plan may be added to the tasks' (seeds, variants, horizons). How the
tasks are judged together, and which they are, is fixed: a task more is a smaller share of the error
for every other one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from harness.errors import UserError
from harness.runs.files import write_json, write_text
from harness.runs.plan_changes import Addition, Amendment
from harness.runs.plan_file import freeze
from harness.runs.reading import RESTORE, exists, read_record, read_values, validated
from harness.runs.suite_folder import PlannedTask, SuiteFolder, SuitePlan
from harness.study.plan import Plan, differences
from harness.study.suite_file import Suite

_PLAN, _AMENDMENTS = TypeAdapter(SuitePlan), TypeAdapter(list[Amendment])


def make_suite_plan(
    suite: Suite, plans: Mapping[str, Plan], active_parameters: Mapping[str, int]
) -> SuitePlan:
    """
    Args:
        plans: of the tasks' studies, by the tasks' names.
        active_parameters: of the tasks' models, which only the data's vocabulary decides.
    """
    return SuitePlan(
        name=suite.name,
        question=suite.question,
        settings=suite.settings,
        baseline=suite.baseline,
        variants=suite.variants,
        tasks=tuple(
            PlannedTask(
                name=task.name,
                question=task.study.question,
                plan_sha256=plans[task.name].sha256,
                active_parameters=active_parameters[task.name],
                tokens=task.study.training.steps * task.study.tokens_per_step,
                size=task.size,
                length=task.length,
            )
            for task in suite.tasks
        ),
    )


def freeze_suite(
    folder: SuiteFolder,
    suite: Suite,
    plan: SuitePlan,
    plans: Mapping[str, Plan],
    *,
    source: Path,
    amend: str | None = None,
) -> dict[str, Addition]:
    """Writes the plans of the suite and of its tasks, or checks that those on disk are the same.

    Args:
        amend: why changed plans may replace the frozen ones.

    Returns:
        what this call added to the tasks' plans, by task.

    Raises:
        UserError: the folder holds results of a different plan; nothing is overwritten.
    """
    if exists(folder.path / "plan.json"):
        raise UserError(
            f"{folder.path} holds a study of this name: give the suite another `name`, or another "
            "--runs-dir"
        )
    changes: list[str] = []
    old = load_suite_plan(folder, whole=False) if folder.is_there else None
    if old is not None and (changes := list(differences(_fixed(old), _fixed(plan)))) and not amend:
        raise UserError(
            f"{folder.path} holds results of a different suite. Changed: {'; '.join(changes[:6])}. "
            "A changed suite is a new one: give it a new `name` or another --runs-dir, or say with "
            '--amend "why" that the change is meant; the report will show it.'
        )
    texts = {task.name: to_toml(task.values) for task in suite.tasks}
    for only_check in (True, False):
        added = {
            name: freeze(
                folder.task(name),
                plans[name],
                source=texts[name],
                amend=amend,
                only_check=only_check,
            )
            for name in texts
        }
    if old is not None and changes:
        _note_amendment(folder, old, plan, changes=changes, why=amend or "")
    write_text(folder.path / "suite.toml", source.read_text(encoding="utf-8"))
    # The plan on disk may be the same as this one in a version of its own.
    tasks = [
        task.model_copy(update={"plan_sha256": _plan_sha256(folder, task.name)})
        for task in plan.tasks
    ]
    plan = plan.model_copy(update={"tasks": tuple(tasks)})
    write_json(folder.plan_path, {**plan.model_dump(mode="json"), "suite_sha256": plan.sha256})
    return {name: addition for name, addition in added.items() if addition is not None}


def load_suite_plan(folder: SuiteFolder, *, whole: bool = True) -> SuitePlan:
    """Reads suite.json and checks it against its own hash.

    Args:
        whole: whether the plans of the tasks must be those that it was written with.

    Raises:
        UserError: no suite there, or one that is damaged or was changed.
    """
    if not folder.is_there:
        raise UserError(f"no suite in {folder.path}: run `optbench run SUITE` first")
    values = read_values(folder.plan_path, RESTORE)
    stated = values.pop("suite_sha256", None)
    plan = validated(_PLAN, values, folder.plan_path, RESTORE)
    if plan.sha256 != stated:
        raise UserError(
            f"{folder.plan_path} was changed after it was written (its hash does not agree): "
            "restore it, or start the suite in a new folder"
        )
    for task in plan.tasks if whole else ():
        if _plan_sha256(folder, task.name) != task.plan_sha256:
            raise UserError(
                f"{folder.task(task.name).plan_path} is not the plan that the suite was frozen "
                "with: run `optbench run` with the suite's file, or restore it"
            )
    return plan


def suite_amendments(folder: SuiteFolder) -> list[Amendment]:
    """Changes of what the suite itself fixes, in order; those of its tasks stand in their own."""
    path = folder.path / "amendments.json"
    return read_record(path, _AMENDMENTS, RESTORE) if exists(path) else []


def _plan_sha256(folder: SuiteFolder, task: str) -> Any:
    path = folder.task(task).plan_path
    return read_values(path, RESTORE).get("plan_sha256") if exists(path) else None


def _fixed(plan: SuitePlan) -> dict[str, Any]:
    """What only an amendment changes; the tasks' own plans are checked one by one."""
    values = plan.model_dump(mode="json", exclude={"suite_version", "question", "variants"})
    own = {"plan_sha256", "question"}
    tasks = values.pop("tasks")
    tables = {task["name"]: {k: v for k, v in task.items() if k not in own} for task in tasks}
    return {**values, "tasks": tables}


def _note_amendment(
    folder: SuiteFolder, old: SuitePlan, new: SuitePlan, *, changes: Sequence[str], why: str
) -> None:
    outcomes = len(list(folder.path.glob("tasks/*/trials/*/outcome.json")))
    amendment = Amendment(
        why=why,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        from_sha256=old.sha256,
        to_sha256=new.sha256,
        changes=tuple(changes),
        outcomes=outcomes,
    )
    records = [*suite_amendments(folder), amendment]
    write_json(folder.path / "amendments.json", [r.model_dump(mode="json") for r in records])


def to_toml(values: Mapping[str, Any]) -> str:
    """A study file's values as TOML: what a task would be as a study of its own."""
    return "\n".join(_toml_lines(values)) + "\n"


def _toml_lines(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        if not isinstance(value, dict) and key != "variants":
            yield f"{_key(key)} = {_toml(value)}"
    for section, table in values.items():
        tables = table if section == "variants" else [table] if isinstance(table, dict) else []
        for one in tables:
            yield f"\n[[{section}]]" if section == "variants" else f"\n[{section}]"
            yield from (f"{_key(key)} = {_toml(value)}" for key, value in one.items())


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


def _toml(value: Any) -> str:
    """Strings of TOML escape as those of JSON do."""
    if isinstance(value, dict):
        inner = ", ".join(f"{_key(key)} = {_toml(inner)}" for key, inner in value.items())
        return "{ " + inner + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(inner) for inner in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
