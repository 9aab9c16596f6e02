"""From a study file to a frozen plan: validate, expand, hash."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness import mistakes
from harness.config import Study, TrialSpec, VariantConfig, canonical_sha256
from harness.errors import UserError
from harness.journal import Chosen, Event, Journal, Suggested
from harness.results import (
    Amendment,
    PlannedTrial,
    Record,
    StudyFolder,
    read_json,
    write_json,
    write_text,
)
from harness.tuning_settings import Point

PLAN_VERSION = 1


class Plan(Record):
    """The list of trials and the analysis settings, fixed before the first trial starts."""

    plan_version: int = PLAN_VERSION
    study: dict[str, Any]
    data_sha256: str
    trials: tuple[PlannedTrial, ...]

    @property
    def sha256(self) -> str:
        """Of all that is fixed before the first trial; what a search finds later is left out."""
        found_later = {"trials"} if self.study.get("tuning") else set()
        return canonical_sha256(self.model_dump(mode="json", exclude=found_later))

    @property
    def distinct_keys(self) -> list[str]:
        """Keys to train, in order, each once."""
        return list(dict.fromkeys(trial.key for trial in self.trials))

    def names(self, key: str) -> list[str]:
        """Names of all variants that the training run `key` stands for."""
        return list(dict.fromkeys(trial.variant for trial in self.trials if trial.key == key))

    def twins(self) -> list[tuple[str, ...]]:
        """Groups of variants that are one configuration: their training runs are all shared."""
        groups: dict[tuple[str, ...], list[str]] = {}
        for variant in dict.fromkeys(trial.variant for trial in self.trials):
            keys = tuple(
                t.key for t in self.trials if t.variant == variant and t.phase == "confirmation"
            )
            groups.setdefault(keys, []).append(variant)
        return [tuple(names) for keys, names in groups.items() if keys and len(names) > 1]


def load_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Reads and validates a study file, after `section.key=value` overrides.

    Raises:
        UserError: with every mistake on its own line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot read the study file {path}: {error.strerror}: give the path of a TOML file, "
            "such as studies/quickstart.toml"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: give the path of a TOML file") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None
    for override in overrides:
        _override(values, override)
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        lines = mistakes.describe(error, Study)
        count = f"{len(lines)} mistake{'s' if len(lines) > 1 else ''} in {path}"
        raise UserError("\n  ".join([f"{count}:", *lines])) from None


def _override(values: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    if not separator or not path.strip():
        raise UserError(
            f"--set {override!r}: write section.key=value, for example --set training.steps=200"
        )
    *parents, last = path.strip().split(".")
    here: Any = values
    for part in parents:
        here = _child(here, part, override)
    if isinstance(here, list):
        here[_index(here, last, override)] = _toml_value(text)
    elif isinstance(here, dict):
        here[last] = _toml_value(text)
    else:
        raise UserError(f"--set {override!r}: there is nothing inside {'.'.join(parents)}")


def _child(here: Any, part: str, override: str) -> Any:
    if isinstance(here, list):
        return here[_index(here, part, override)]
    if isinstance(here, dict):
        return here.setdefault(part, {})
    raise UserError(f"--set {override!r}: there is nothing inside the parent of {part!r}")


def _index(here: list[Any], part: str, override: str) -> int:
    """A list item by its position, or by its `name` (variants.muon.optimizer.lr=0.01)."""
    names = [item.get("name") if isinstance(item, dict) else None for item in here]
    if part in names:
        return names.index(part)
    if part.isdigit() and int(part) < len(here):
        return int(part)
    raise UserError(
        f"--set {override!r}: no item {part!r} here: use a position below {len(here)} or one of "
        f"the names {[name for name in names if name]}"
    )


def _toml_value(text: str) -> Any:
    """The value as TOML; bare words are strings."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def expand(study: Study, data_sha256: str) -> dict[str, TrialSpec]:
    """Every distinct training run of the study, by its key, in the order of training.

    Seeds come first: after each seed every variant has been trained on it, so an interrupted study
    holds whole pairs.
    """
    return {spec.key: spec for _, spec in _cells(study, data_sha256)}


def make_plan(study: Study, data_sha256: str) -> Plan:
    """The plan of a study; with [tuning] its trials are known only as the search goes on."""
    trials = () if study.tuning else tuple(_confirmation(study, data_sha256))
    return Plan(study=study.model_dump(mode="json"), data_sha256=data_sha256, trials=trials)


def _confirmation(study: Study, data_sha256: str) -> Iterator[PlannedTrial]:
    for variant, spec in _cells(study, data_sha256):
        yield PlannedTrial(variant=variant.name, phase="confirmation", seed=spec.seed, key=spec.key)


def _cells(study: Study, data_sha256: str) -> Iterator[tuple[VariantConfig, TrialSpec]]:
    for seed in study.seeds.confirmation:
        for variant in study.variants:
            yield variant, trial_spec(study, variant, seed, data_sha256)


def settled(study: Study, events: Sequence[Event]) -> Study:
    """The study whose variants have the settings that the search chose; nothing is left to search.

    Before the search is over its undecided variants keep the settings of the study file.
    """
    points = {event.variant: event.point for event in events if isinstance(event, Chosen)}
    variants = tuple(
        variant.with_settings(points.get(variant.name, {})) for variant in study.variants
    )
    return study.model_copy(update={"variants": variants, "tuning": None})


def _found_by_search(plan: Plan, folder: StudyFolder) -> Iterator[PlannedTrial]:
    """The rows that only the search could know: its trials and, once it is over, those chosen."""
    events = Journal(folder.path).events()
    for event in events:
        if isinstance(event, Suggested):
            for seed, key in event.keys.items():
                yield PlannedTrial(variant=event.variant, phase="tuning", seed=seed, key=key)
    study = Study.model_validate(plan.study)
    if {e.variant for e in events if isinstance(e, Chosen)} == {v.name for v in study.variants}:
        yield from _confirmation(settled(study, events), plan.data_sha256)


def trial_spec(study: Study, variant: VariantConfig, seed: int, data_sha256: str) -> TrialSpec:
    return TrialSpec(
        data=study.data,
        data_sha256=data_sha256,
        model=study.model,
        optimizer=variant.optimizer,
        schedule=variant.schedule or study.training.schedule,
        training=study.training,
        workers=study.resources.workers,
        cpus_per_worker=study.resources.cpus_per_worker,
        gpus_per_worker=study.resources.gpus_per_worker,
        seed=seed,
    )


def tuning_spec(
    study: Study, variant: VariantConfig, point: Point, *, seed: int, data_sha256: str
) -> TrialSpec:
    """The training run of a search for one point of the variant's space and one tuning seed."""
    spec = trial_spec(study, variant.with_settings(point), seed, data_sha256)
    if study.tuning is None or study.tuning.steps is None:
        return spec
    training = spec.training.model_copy(update={"steps": study.tuning.steps})
    return spec.model_copy(update={"training": training})


def find_variant(study: Study, name: str) -> VariantConfig:
    for variant in study.variants:
        if variant.name == name:
            return variant
    names = [variant.name for variant in study.variants]
    raise UserError(f"no variant {name!r} in study {study.name!r}: choose one of {names}")


def freeze(folder: StudyFolder, plan: Plan, *, source: Path, amend: str | None = None) -> None:
    """Writes the plan before the first trial, or checks that the one on disk is the same.

    Args:
        amend: why a changed plan may replace the frozen one; kept, and printed in the report.

    Raises:
        UserError: the folder holds results of a different plan; nothing is overwritten.
    """
    if folder.plan_path.exists():
        frozen = load_plan(folder)
        if frozen.sha256 == plan.sha256:
            return
        changes = list(_differences(frozen.model_dump(), plan.model_dump()))
        if not amend:
            raise UserError(
                f"{folder.path} holds results of a different plan. Changed: "
                + "; ".join(changes[:6])
                + (f"; and {len(changes) - 6} more" if len(changes) > 6 else "")
                + ". A changed plan is a new study: give it a new `name` or another --runs-dir, "
                'or say with --amend "why" that the change is meant; the report will show it.'
            )
        amendment = Amendment(
            why=amend,
            when=datetime.now(UTC).isoformat(timespec="seconds"),
            from_sha256=frozen.sha256,
            to_sha256=plan.sha256,
            changes=tuple(changes),
        )
        amendments = [*folder.amendments(), amendment]
        write_json(folder.amendments_path, [a.model_dump(mode="json") for a in amendments])
    write_text(folder.path / "study.toml", source.read_text(encoding="utf-8"))
    write_json(folder.plan_path, {**plan.model_dump(mode="json"), "plan_sha256": plan.sha256})


def load_plan(folder: StudyFolder) -> Plan:
    """Reads plan.json, checks it against its own hash, and adds the trials that a search found.

    Raises:
        UserError: no plan there, or one that was edited by hand.
    """
    if not folder.plan_path.exists():
        raise UserError(f"no study in {folder.path}: run `optbench run STUDY` first")
    values = read_json(folder.plan_path)
    stated = values.pop("plan_sha256", None)
    plan = Plan.model_validate(values)
    if plan.sha256 != stated:
        raise UserError(
            f"{folder.plan_path} was changed after it was written (its hash does not agree): "
            "restore it, or start the study in a new folder"
        )
    if plan.study.get("tuning"):
        return plan.model_copy(update={"trials": tuple(_found_by_search(plan, folder))})
    return plan


def _differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Dotted paths at which two plain values differ; the derived list of trials comes last."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}, key=lambda key: (key == "trials", key)):
            if old.get(key) != new.get(key):
                yield from _differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _differences(left, right, f"{path}.{index}")
    elif path.endswith("trials"):
        yield f"the list of trials ({len(old)} -> {len(new)})"
    elif old != new and not path.startswith("trials."):
        yield f"{path.removeprefix('study.')} ({_short(old)} -> {_short(new)})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


__all__ = ["Plan", "expand", "find_variant", "freeze", "load_plan", "load_study", "make_plan"]
