"""Tuned settings against size: does what was tuned on one task serve another?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.analysis.search.results import Configuration, VariantSearch
from harness.analysis.suite.results import (
    Axis,
    HyperparameterScaling,
    ScalingPoint,
    Transfer,
)
from harness.analysis.suite.scaling import fit_points
from harness.analysis.suite.task_data import TaskData
from harness.study.search_space import Choice, Space


def hyperparameter_scaling(
    tasks: Sequence[TaskData],
    variants: Sequence[str],
    *,
    level: float,
    larger: Mapping[Axis, float] | None = None,
) -> tuple[HyperparameterScaling, ...]:
    """One entry for each contestant and each setting that was searched as a positive number."""
    found = []
    for variant in variants:
        searches = {
            task.name: search
            for task in tasks
            if (search := task.searches.get(variant)) is not None and search.chosen is not None
        }
        transfers = _transfers(searches)
        settings = dict.fromkeys(
            setting
            for search in searches.values()
            for setting, dimension in search.space.items()
            if not isinstance(dimension, Choice)
        )
        for setting in settings:
            points = tuple(
                ScalingPoint(
                    task=task.name,
                    active_parameters=task.active_parameters,
                    tokens=task.tokens,
                    value=value,
                )
                for task in tasks
                if (value := _positive(searches.get(task.name), setting)) is not None
            )
            if not points:
                continue
            fit, why_not = fit_points(points, f"tuned {setting}", level=level, larger=larger)
            found.append(
                HyperparameterScaling(
                    variant=variant,
                    setting=setting,
                    points=points,
                    not_tuned=tuple(name for name, search in searches.items() if not search.tuned),
                    fit=fit,
                    why_not=why_not,
                    transfers=transfers,
                )
            )
    return tuple(found)


def _positive(search: VariantSearch | None, setting: str) -> float | None:
    value = None if search is None or search.chosen is None else search.chosen.point.get(setting)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0.0:
        return None
    return float(value)


def _transfers(searches: Mapping[str, VariantSearch]) -> tuple[Transfer, ...]:
    return tuple(
        transfer
        for source, tuned in searches.items()
        for to, search in searches.items()
        if source != to and (transfer := _transfer(source, tuned, to, search)) is not None
    )


def _transfer(source: str, tuned: VariantSearch, to: str, search: VariantSearch) -> Transfer | None:
    """None where no configuration can be compared: other settings were searched there."""
    assert tuned.chosen is not None, "only searches with a choice come here"
    assert search.chosen is not None, "only searches with a choice come here"
    distances = [
        (distance, configuration)
        for configuration in search.configurations
        if (distance := _distance(search.space, tuned.chosen, configuration)) is not None
    ]
    if not distances or search.chosen.score is None:
        return None
    distance, nearest = min(distances, key=lambda pair: (pair[0], pair[1].index))
    loss = None if nearest.score is None else nearest.score - search.chosen.score
    return Transfer(source=source, to=to, distance=distance, loss=loss)


def _distance(space: Space, one: Configuration, other: Configuration) -> float | None:
    """The largest distance of a setting, in shares of its interval; 1 for another choice."""
    if one.point.keys() != other.point.keys():
        return None
    shares = [0.0]
    for setting, dimension in space.items():
        a, b = one.point[setting], other.point[setting]
        if isinstance(dimension, Choice):
            shares.append(0.0 if a == b else 1.0)
        elif a != b:
            try:
                share = dimension.share_of(float(a)) - dimension.share_of(float(b))
            except ValueError:  # a grid without this value
                share = 1.0
            shares.append(abs(share))
    return max(shares)
