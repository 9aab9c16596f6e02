"""Configurations of one optimizer, side by side: what varied between them and what came of it.

A plain study whose variants differ in their settings is one source, the search of a tuning phase
the other; the figures of sensitivity do not care which.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.analysis.study_results import StudyResults
from harness.runs.snapshot import TrialSnapshot
from harness.study.dotted import flatten

NEARLY_FULL = 0.75
"""Share of a grid's cells that must be there before it is drawn as a heat map."""

Cell = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class TriedSettings:
    """One configuration. `losses` are those of the completed seeds, `lost` counts all others.

    `diverged` says that one of them was lost by divergence, `chosen` that a search ended with it.
    """

    name: str
    values: Mapping[str, Any]
    losses: tuple[float, ...]
    lost: int = 0
    diverged: bool = False
    chosen: bool = False

    @property
    def score(self) -> float | None:
        """Mean loss; None if a seed was lost, for the survivors' mean says nothing."""
        return None if self.lost or not self.losses else sum(self.losses) / len(self.losses)


@dataclass(frozen=True, kw_only=True)
class SensitivityGroup:
    """Settings that may be compared one by one.

    `borders` of the space that a search was given, by setting; empty for a plain study.
    """

    title: str
    settings: tuple[TriedSettings, ...]
    searched: bool = False
    borders: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def varied(self) -> dict[str, tuple[Any, ...]]:
        """Names that take more than one value, with their distinct values."""
        names = dict.fromkeys(name for setting in self.settings for name in setting.values)
        found = {
            name: tuple(dict.fromkeys(_hashable(s.values.get(name)) for s in self.settings))
            for name in names
        }
        return {name: values for name, values in found.items() if len(values) > 1}

    def numeric(self) -> dict[str, tuple[float, ...]]:
        """Of `varied`, the names whose values are all numbers, ascending."""
        return {
            name: tuple(sorted(values))
            for name, values in self.varied().items()
            if all(_is_number(value) for value in values)
        }

    def lines(self, name: str) -> list[tuple[TriedSettings, ...]]:
        """Settings that differ in `name` only, by its value; at least 3 of them in each line."""
        others = [other for other in self.varied() if other != name]
        groups: dict[tuple[Any, ...], list[TriedSettings]] = {}
        for setting in self.settings:
            key = tuple(_hashable(setting.values.get(other)) for other in others)
            groups.setdefault(key, []).append(setting)
        return [
            tuple(sorted(group, key=lambda s: float(s.values[name])))
            for group in groups.values()
            if len({s.values[name] for s in group}) >= 3
        ]

    def axes(self) -> tuple[str, str] | None:
        """The two numeric names with the most distinct values of which a grid is nearly full."""
        numeric = self.numeric()
        pairs = sorted(
            itertools.combinations(numeric, 2),
            key=lambda pair: -len(numeric[pair[0]]) * len(numeric[pair[1]]),
        )
        for one, other in pairs:
            cells = len(numeric[one]) * len(numeric[other])
            if len(self.cells(one, other)) >= NEARLY_FULL * cells:
                return one, other
        return None

    def cells(self, one: str, other: str) -> dict[Cell, TriedSettings]:
        """The best setting of each cell; one that lost a seed only where no other is there."""
        found: dict[Cell, TriedSettings] = {}
        for setting in self.settings:
            cell = (float(setting.values[one]), float(setting.values[other]))
            held = found.get(cell)
            if held is None or _order(setting) < _order(held):
                found[cell] = setting
        return found


def sensitivity_groups(study: StudyResults) -> tuple[SensitivityGroup, ...]:
    """The searches of the tuning phase, or else the variants of each optimizer."""
    return tuple(_searches(study)) or tuple(_kinds(study))


def _searches(study: StudyResults) -> Iterator[SensitivityGroup]:
    if study.search is None:
        return
    for name, found in study.search.variants.items():
        settings = tuple(
            TriedSettings(
                name=f"{name} {item.index}",
                values=item.point,
                losses=tuple(item.losses.values()),
                lost=len(item.keys) - len(item.losses),
                diverged=item.outcome == "diverged",
                chosen=found.chosen is not None and item.index == found.chosen.index,
            )
            for item in found.configurations
            if item.outcome is not None
        )
        borders = {name: _borders(dimension) for name, dimension in found.space.items()}
        yield SensitivityGroup(
            title=name,
            settings=settings,
            searched=True,
            borders={name: ends for name, ends in borders.items() if ends is not None},
        )


def _borders(dimension: Any) -> tuple[float, float] | None:
    """Ends of an interval or of a list of ascending numbers; a choice has none."""
    if dimension.kind == "choice":
        return None
    if dimension.kind == "grid":
        return float(dimension.values[0]), float(dimension.values[-1])
    return float(dimension.low), float(dimension.high)


def _kinds(study: StudyResults) -> Iterator[SensitivityGroup]:
    by_kind: dict[str, list[TriedSettings]] = {}
    for variant in study.variants:
        trials = [trial for trial in study.of(variant) if trial.outcome is not None]
        if trials:
            values = flatten(optimizer_of(study, trials[0]))
            kind = values.pop("kind")
            # Two that are not ours have as little in common as two kinds.
            values.pop("source", None)
            by_kind.setdefault(str(values.pop("path", kind)), []).append(
                TriedSettings(
                    name=variant,
                    values=values,
                    losses=tuple(trial.loss for trial in trials if trial.loss is not None),
                    lost=sum(trial.loss is None for trial in trials),
                    diverged=any(trial.state == "diverged" for trial in trials),
                )
            )
    for kind, settings in by_kind.items():
        yield SensitivityGroup(title=kind, settings=tuple(settings))


def optimizer_of(study: StudyResults, trial: TrialSnapshot) -> dict[str, Any]:
    """As it was trained, with its schedule: after a search not what the study file says."""
    trained = trial.spec or study.variant(trial.variant)
    optimizer = trained.optimizer.model_dump(mode="json")
    schedule = trained.schedule.model_dump(mode="json") if trained.schedule else {}
    return {**optimizer, "schedule": schedule}


def best(settings: Sequence[TriedSettings]) -> TriedSettings | None:
    scored = [setting for setting in settings if setting.score is not None]
    return min(scored, key=_order) if scored else None


def _order(setting: TriedSettings) -> float:
    return math.inf if setting.score is None else setting.score


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple(map(str, value.items()))  # an empty table is not flattened
    return tuple(map(str, value)) if isinstance(value, list) else value
