"""The suite file: several tasks for the same contestants, each task an ordinary study.

A suite file has `[[tasks]]`, which a study file has not. Its other sections are those of a study
file, common to all tasks; each task is the common part with the tables it names laid over it.
Every mistake is reported with its dotted path, and all of them together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from harness.errors import UserError
from harness.study.external import with_sources
from harness.study.load import load_study, mistakes_in, read_values
from harness.study.placement import CheckpointSettings, ResourcesConfig
from harness.study.record import Record
from harness.study.study_file import NAME_PATTERN, Study
from harness.study.suite_settings import SuiteSettings
from harness.study.validation_messages import describe

SECTIONS = ("data", "model", "training", "seeds", "tuning", "analysis")
"""Sections of a study file that a task may lay its own tables over."""

MINIMUM_TASKS = 2


class TaskConfig(Record):
    """One task of a suite file: what differs from the common part."""

    name: str = Field(description="name of the task and of its folder; letters, digits and . _ + -")
    question: str = Field(default="", description="what this task asks; default: the suite's")
    size: str | None = Field(
        default=None,
        description="name of the size, for speed-up against size; default: tasks with the same "
        "number of active parameters are of one size",
    )
    length: str | None = Field(
        default=None,
        description="name of the length, for speed-up against length; default: tasks that train on "
        "the same number of tokens are of one length",
    )
    data: dict[str, Any] = Field(default_factory=dict, description="laid over [data]")
    model: dict[str, Any] = Field(
        default_factory=dict,
        description="laid over [model], so keys of [model] beside its `size` stay",
    )
    training: dict[str, Any] = Field(default_factory=dict, description="laid over [training]")
    seeds: dict[str, Any] = Field(default_factory=dict, description="laid over [seeds]")
    tuning: dict[str, Any] | Literal[False] = Field(
        default_factory=dict,
        description="laid over [tuning]; false: this task's variants are not tuned, they compete "
        "with the settings they name",
    )
    analysis: dict[str, Any] = Field(
        default_factory=dict,
        description="laid over [analysis]; the baseline is the same in all tasks",
    )
    variants: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="laid over the variant of this name: its optimizer, space or schedule",
    )


class SuiteFile(Record):
    """A suite file as it is written: the sections of a study file, and what it has beside them."""

    name: str = Field(description="name of the suite and of its folder of results")
    question: str = Field(default="", description="what the suite asks, in one sentence")
    suite: SuiteSettings = Field(default_factory=SuiteSettings)
    tasks: tuple[TaskConfig, ...] = Field(min_length=1, description="two or more")
    data: dict[str, Any] = Field(default_factory=dict, description="as in a study file")
    model: dict[str, Any] = Field(default_factory=dict, description="as in a study file")
    training: dict[str, Any] = Field(default_factory=dict, description="as in a study file")
    resources: dict[str, Any] = Field(
        default_factory=dict, description="as in a study file; the same for all tasks"
    )
    checkpoints: dict[str, Any] = Field(
        default_factory=dict, description="as in a study file; the same for all tasks"
    )
    seeds: dict[str, Any] = Field(default_factory=dict, description="as in a study file")
    variants: list[Any] = Field(description="as in a study file: the contestants of every task")
    tuning: dict[str, Any] | None = Field(default=None, description="as in a study file")
    analysis: dict[str, Any] = Field(
        default_factory=dict, description="as in a study file, without alpha: see suite.alpha"
    )


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task of a suite: an ordinary study, whose name is `SUITE.TASK`.

    `values` are those of the study file that it could be; `size` and `length` are None where the
    suite file names none.
    """

    name: str
    size: str | None
    length: str | None
    study: Study
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Several tasks for the same contestants; at least two."""

    name: str
    question: str
    settings: SuiteSettings
    tasks: tuple[Task, ...]

    @property
    def first(self) -> Study:
        """What all tasks have in common can be read from any of them."""
        return self.tasks[0].study

    @property
    def baseline(self) -> str:
        return self.first.analysis.baseline

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the contestants, in the order of the file."""
        return tuple(variant.name for variant in self.first.variants)

    @property
    def resources(self) -> ResourcesConfig:
        return self.first.resources

    @property
    def checkpoints(self) -> CheckpointSettings:
        return self.first.checkpoints


def is_suite(values: Mapping[str, Any]) -> bool:
    """Whether the values of a TOML file are those of a suite."""
    return "tasks" in values


def load_study_or_suite(path: Path, overrides: Sequence[str] = ()) -> Study | Suite:
    """What the file holds, validated.

    Raises:
        UserError: with every mistake on its own line.
    """
    suite = is_suite(read_values(path, overrides))
    return load_suite(path, overrides) if suite else load_study(path, overrides)


def load_suite(path: Path, overrides: Sequence[str] = ()) -> Suite:
    """Reads and validates a suite file, after `section.key=value` overrides.

    A task is named in an override as a variant is: `tasks.small.training.steps=200`.

    Raises:
        UserError: with every mistake on its own line.
    """
    values = read_values(path, overrides)
    if not is_suite(values):
        raise UserError(f"{path} is no suite: it has no [[tasks]]")
    suite, mistakes = suite_of(values)
    if suite is None:
        raise mistakes_in(path, mistakes)
    return suite


def suite_of(values: Mapping[str, Any]) -> tuple[Suite | None, list[str]]:
    """The suite of a TOML file's values; or None, and what is wrong with them."""
    mistakes: list[str] = []
    try:
        file = SuiteFile.model_validate(values)
        mistakes += _disagreements(file)
    except ValidationError as error:
        file = None
        mistakes += describe(error, SuiteFile)
    raw = values["tasks"] if isinstance(values["tasks"], list) else []
    tasks = [task for task in raw if isinstance(task, dict) and _is_plain(task.get("name"))]
    alpha = 0.05 if file is None else file.suite.alpha
    studies: dict[str, Study] = {}
    lines: dict[str, list[str]] = {}
    for task in tasks:
        merged = task_values(values, task, alpha=alpha / max(1, len(tasks)))
        try:
            studies[task["name"]], wrong = with_sources(Study.model_validate(merged))
        except ValidationError as error:
            wrong = describe(error, Study)
        if wrong:
            lines[task["name"]] = wrong
    mistakes += _told_once(lines, len(tasks))
    if file is None or mistakes:
        return None, mistakes
    if mistakes := [*_same_tasks(studies), *_missing_targets(file, studies)]:
        return None, mistakes
    return (
        Suite(
            name=file.name,
            question=file.question,
            settings=file.suite,
            tasks=tuple(
                Task(
                    name=task.name,
                    size=task.size,
                    length=task.length,
                    study=studies[task.name],
                    values=task_values(values, values["tasks"][number], alpha=alpha / len(tasks)),
                )
                for number, task in enumerate(file.tasks)
            ),
        ),
        [],
    )


def task_values(
    values: Mapping[str, Any], task: Mapping[str, Any], *, alpha: float
) -> dict[str, Any]:
    """The common part of a suite file with a task's tables laid over it: a study file's values.

    Args:
        alpha: of this task's own analysis.
    """
    study = {
        key: value for key, value in values.items() if key not in ("tasks", "suite", "variants")
    }
    study["name"] = f"{values.get('name')}.{task['name']}"
    study["question"] = task.get("question") or values.get("question", "")
    for section in SECTIONS:
        if section in task:
            study[section] = laid_over(study.get(section, {}), task[section])
    own = task.get("variants", {})
    untuned = task.get("tuning") is False
    if untuned:
        del study["tuning"]
    variants = values.get("variants", [])
    study["variants"] = (
        [_variant(variant, own, untuned=untuned) for variant in variants]
        if isinstance(variants, list) and isinstance(own, dict)
        else variants
    )
    if isinstance(study.get("analysis"), dict):
        study["analysis"] = {**study["analysis"], "alpha": alpha}
    return study


def _variant(variant: Any, own: Mapping[str, Any], *, untuned: bool) -> Any:
    """A contestant with what the task lays over it."""
    if not isinstance(variant, dict):
        return variant
    kept = {key: value for key, value in variant.items() if not (untuned and key == "space")}
    return laid_over(kept, own.get(str(variant.get("name")), {}))


def laid_over(below: Any, above: Any) -> Any:
    """Tables key by key; everything else, and a table of another `kind`, as it stands above."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    if "kind" in above and above["kind"] != below.get("kind"):
        return above
    return {**below, **{key: laid_over(below.get(key), value) for key, value in above.items()}}


def _is_plain(name: Any) -> bool:
    return isinstance(name, str) and NAME_PATTERN.fullmatch(name) is not None


def _told_once(lines: Mapping[str, Sequence[str]], tasks: int) -> Iterator[str]:
    """A mistake of the common part is every task's, and told once; others with their task."""
    everywhere = [
        line
        for line in next(iter(lines.values()), ())
        if len(lines) == tasks and all(line in own for own in lines.values())
    ]
    yield from everywhere
    for task, own in lines.items():
        yield from (f"tasks.{task}.{line}" for line in own if line not in everywhere)


def _disagreements(file: SuiteFile) -> Iterator[str]:
    """Checks over more than one table, each as `dotted.path: message`."""
    names = [task.name for task in file.tasks]
    if len(names) < MINIMUM_TASKS:
        yield "tasks: a suite has two or more: one alone is a study, without [[tasks]]"
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        yield f"tasks: names used more than once: {repeated}: rename one of each"
    for what, name in [("name", file.name), *((f"tasks.{n}.name", n) for n in names)]:
        if not _is_plain(name):
            yield f"{what}: {name!r} is not a plain name: use letters, digits and . _ + -"
    if "alpha" in file.analysis:
        yield (
            "analysis.alpha: a suite has one for all tasks: write it as `alpha` in [suite], and "
            "each task gets its share"
        )
    known = [v.get("name") for v in file.variants if isinstance(v, dict)]
    for task in file.tasks:
        for key, why in (
            ("alpha", "write it as `alpha` in [suite]: each task gets its share"),
            ("baseline", "the contestants and the baseline are the same in all tasks"),
        ):
            if key in task.analysis:
                yield f"tasks.{task.name}.analysis.{key}: {why}"
        for variant, tables in task.variants.items():
            if variant not in known:
                yield (
                    f"tasks.{task.name}.variants.{variant}: no such variant: choose one of {known}"
                )
            optimizer = tables.get("optimizer", {})
            kind = isinstance(optimizer, dict) and "kind" in optimizer
            for key in [*(["name"] if "name" in tables else []), *(["optimizer.kind"] * kind)]:
                yield (
                    f"tasks.{task.name}.variants.{variant}.{key}: the contestants are the same in "
                    "all tasks: leave it out"
                )


def _same_tasks(studies: Mapping[str, Study]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for name, study in studies.items():
        what = study.model_copy(update={"name": "", "question": ""}).model_dump_json()
        if what in seen:
            yield f"tasks.{name}: the same as {seen[what]}, and would count twice: leave one out"
        seen.setdefault(what, name)


def _missing_targets(file: SuiteFile, studies: Mapping[str, Study]) -> Iterator[str]:
    if file.suite.target == "given":
        for name, study in studies.items():
            if study.analysis.target is None:
                yield (
                    f"tasks.{name}.analysis.target: missing: suite.target is 'given', so every "
                    "task names a loss"
                )
