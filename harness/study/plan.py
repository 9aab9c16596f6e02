"""The plan: which trials a study consists of, fixed and hashed before the first one starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from harness.study.record import Record, TrialKey
from harness.study.resolution import Resolution
from harness.study.search_space import Point
from harness.study.study_file import Study
from harness.study.trial import PLACEMENT, TrialSpec, at_length, canonical_sha256, trial_spec

PLAN_VERSION = 2
"""1: what a trial occupies was part of its key and of the plan's hash."""

WHERE_IT_RUNS = ("resources", "checkpoints")
"""Sections of a study file that may change at any time: they decide no number."""

Phase = Literal["tuning", "confirmation", "horizon"]


class PlannedTrial(Record):
    """One row of the plan. Rows with the same key are one training run.

    A `horizon` row is the baseline at another length than the study's, which `steps` names. Every
    other row leaves `steps` out, in plan.json too: its hash is that of plans before horizons.
    """

    variant: str
    phase: Phase
    seed: int
    key: TrialKey
    steps: int | None = Field(default=None, exclude_if=lambda steps: steps is None)

    @property
    def detail(self) -> str:
        """What tells it from the variant's other rows that measure."""
        return f"seed {self.seed}" + ("" if self.steps is None else f", {self.steps} steps")


class Plan(Record):
    """The list of trials and the analysis settings, fixed before the first trial starts.

    `resolution` says where the dtype of a variant comes from whose study file says `auto`.
    """

    plan_version: int = PLAN_VERSION
    study: dict[str, Any]
    data_sha256: str
    trials: tuple[PlannedTrial, ...]
    resolution: Resolution | None = Field(
        default=None, exclude_if=lambda resolution: resolution is None
    )

    @property
    def sha256(self) -> str:
        """Of all that is fixed before the first trial; what a search finds later is left out.

        So is the resolution: the dtype itself stands in the study, and a study file that names it
        has the same plan.
        """
        return canonical_sha256(self.fixed(found_later={"trials"}))

    def fixed(self, *, found_later: set[str] | None = None) -> dict[str, Any]:
        """What may not change without an amendment, as plain values.

        Args:
            found_later: fields to leave out of the plan of a study that searches.
        """
        searches = self.study.get("tuning") and found_later
        left_out = {"resolution"} | (found_later or set() if searches else set())
        values = self.model_dump(mode="json", exclude=left_out)
        if self.plan_version > 1:
            values["study"] = {k: v for k, v in self.study.items() if k not in WHERE_IT_RUNS}
        return values

    def key_of(self, spec: TrialSpec) -> str:
        """The key of a trial in this plan."""
        if self.plan_version > 1:
            return spec.key
        occupied = {name: self.study["resources"][name] for name in PLACEMENT}
        return canonical_sha256({**spec.model_dump(mode="json"), **occupied})[:16]

    @property
    def distinct_keys(self) -> list[str]:
        """Keys to train, in order, each once."""
        return list(dict.fromkeys(trial.key for trial in self.trials))

    def variants_by_key(self) -> dict[str, tuple[str, ...]]:
        """The variants that each training run stands for, by its key."""
        names: dict[str, dict[str, None]] = {}
        for trial in self.trials:
            names.setdefault(trial.key, {})[trial.variant] = None
        return {key: tuple(variants) for key, variants in names.items()}

    def twins(self) -> list[tuple[str, ...]]:
        """Groups of variants that are one configuration: their training runs are all shared."""
        keys: dict[str, list[str]] = {}
        for trial in self.trials:
            if trial.phase == "confirmation":
                keys.setdefault(trial.variant, []).append(trial.key)
        groups: dict[tuple[str, ...], list[str]] = {}
        for variant, own in keys.items():
            groups.setdefault(tuple(own), []).append(variant)
        return [tuple(names) for names in groups.values() if len(names) > 1]


KeyOf = Callable[[TrialSpec], str]


def _key(spec: TrialSpec) -> str:
    return spec.key


def expand(study: Study, data_sha256: str, *, key_of: KeyOf = _key) -> dict[str, TrialSpec]:
    """Every distinct training run of the study, by its key, in the order of training.

    Seeds come first: after each seed every variant has been trained on it, and the baseline at
    every length, so an interrupted study holds whole pairs and whole laws.
    """
    return {trial.key: spec for trial, spec in _measuring(study, data_sha256, key_of)}


def make_plan(
    study: Study,
    data_sha256: str,
    *,
    resolution: Resolution | None = None,
    version: int = PLAN_VERSION,
) -> Plan:
    """The plan of a study; with [tuning] its trials are known only as the search goes on.

    Args:
        resolution: what the study's `auto` was resolved to, if it said so anywhere.
        version: of the plan; an older one for a folder that began with it.
    """
    plan = Plan(
        plan_version=version,
        study=study.model_dump(mode="json"),
        data_sha256=data_sha256,
        trials=(),
        resolution=resolution,
    )
    if study.tuning:
        return plan
    trials = measuring_trials(study, data_sha256, key_of=plan.key_of)
    return plan.model_copy(update={"trials": tuple(trials)})


def measuring_trials(
    study: Study, data_sha256: str, *, key_of: KeyOf = _key
) -> Iterator[PlannedTrial]:
    """The rows that measure, of the confirmation and of the horizons, in the order of training."""
    return (trial for trial, _ in _measuring(study, data_sha256, key_of))


def _measuring(
    study: Study, data_sha256: str, key_of: KeyOf
) -> Iterator[tuple[PlannedTrial, TrialSpec]]:
    for seed in study.seeds.confirmation:
        specs = {v.name: trial_spec(study, v, seed, data_sha256) for v in study.variants}
        for name, spec in specs.items():
            key = key_of(spec)
            yield PlannedTrial(variant=name, phase="confirmation", seed=seed, key=key), spec
        baseline = study.analysis.baseline
        for steps in study.analysis.horizons:
            spec = at_length(specs[baseline], steps)
            row = PlannedTrial(
                variant=baseline, phase="horizon", seed=seed, key=key_of(spec), steps=steps
            )
            yield row, spec


def with_chosen(study: Study, chosen: Mapping[str, Point]) -> Study:
    """The study whose variants have the settings that a search chose; nothing is left to search.

    A variant that is not among the `chosen` keeps the settings of the study file.
    """
    variants = tuple(
        variant.with_settings(chosen.get(variant.name, {})) for variant in study.variants
    )
    return study.model_copy(update={"variants": variants, "tuning": None})


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Dotted paths at which two plain values differ; the derived list of trials comes last."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}, key=lambda key: (key == "trials", key)):
            if old.get(key) != new.get(key):
                yield from differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from differences(left, right, f"{path}.{index}")
    elif path.endswith("trials"):
        yield f"the list of trials ({len(old)} -> {len(new)})"
    elif old != new and not path.startswith("trials."):
        yield f"{path.removeprefix('study.')} ({_short(old)} -> {_short(new)})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
