"""The course of a search: rounds of equal budgets, then a choice for every variant.

Round 0 searches the spaces of the study file. When `extend` is on and a variant's best lies at an
edge, a further round searches widened spaces; every variant gets its trials, also those whose best
lay inside, so that the budgets stay equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from harness.config import Study, VariantConfig
from harness.journal import Chosen, Journal, Widened
from harness.results import StudyFolder
from harness.tuning.records import VariantTuning
from harness.tuning.selection import Edge, best_of, find_edges
from harness.tuning.summary import summarise
from harness.tuning_settings import Dimension, Space


@dataclass(frozen=True, kw_only=True)
class Round:
    """What is searched at equal budgets, one configuration of each variant after another."""

    index: int
    spaces: Mapping[str, Space]
    trials: int


def next_round(study: Study, folder: StudyFolder) -> Round | None:
    """The round to run or to continue; None when every variant's configuration is chosen.

    Writes the widening of the spaces, or the choices, into the journal when a round is over.
    """
    tuning = summarise(study, folder)
    settings = study.tuning
    assert tuning is not None, "only a study with [tuning] has rounds"
    assert settings is not None
    events = Journal(folder.path).events()
    if any(isinstance(event, Chosen) for event in events):
        _choose(study, folder, tuning.variants)
        return None
    index = max((e.round for e in events if isinstance(e, Widened)), default=0)
    current = Round(
        index=index,
        spaces={name: variant.space for name, variant in tuning.variants.items()},
        trials=settings.trials_in_round(index),
    )
    if not _is_over(current, tuning.variants):
        return current
    if index < settings.last_round and (widened := _widen(study, tuning.variants)):
        spaces = {name: dict(space) for name, space in current.spaces.items()}
        for name, (space, _) in widened.items():
            spaces[name] = space
        why = {name: messages for name, (_, messages) in widened.items()}
        Journal(folder.path).append(Widened(round=index + 1, spaces=spaces, why=why))
        return next_round(study, folder)
    _choose(study, folder, tuning.variants)
    return None


def _is_over(current: Round, variants: Mapping[str, VariantTuning]) -> bool:
    return all(
        sum(c.round == current.index and c.outcome is not None for c in variant.configurations)
        >= current.trials
        for variant in variants.values()
    )


def _widen(
    study: Study, variants: Mapping[str, VariantTuning]
) -> dict[str, tuple[dict[str, Dimension], list[str]]]:
    """Widened spaces, with the reasons, of the variants whose best lies at an edge."""
    assert study.tuning is not None
    widened = {}
    for variant in study.variants:
        found = variants[variant.name]
        edges = find_edges(
            found.space,
            found.configurations,
            sigma=found.sigma,
            edge_fraction=study.tuning.edge_fraction,
        )
        space = dict(found.space)
        done = [edge.message for edge in edges if _widen_one(variant, space, edge)]
        if done:
            widened[variant.name] = (space, done)
    return widened


def _widen_one(variant: VariantConfig, space: dict[str, Dimension], edge: Edge) -> bool:
    """Widens one dimension in place; False where the optimizer refuses the new border."""
    wider = space[edge.setting].widened(edge.border)  # type: ignore[union-attr]
    border = wider.low if edge.border == "low" else wider.high
    try:
        variant.with_settings({edge.setting: border})
    except ValidationError:
        return False
    space[edge.setting] = wider
    return True


def _choose(study: Study, folder: StudyFolder, variants: Mapping[str, VariantTuning]) -> None:
    """Writes the choice of every variant that has none yet."""
    journal = Journal(folder.path)
    decided = {event.variant for event in journal.events() if isinstance(event, Chosen)}
    for name, variant in variants.items():
        if name not in decided:
            best = best_of(variant.configurations)
            journal.append(
                Chosen(
                    variant=name,
                    index=best.index if best else None,
                    point=best.point if best else {},
                )
            )
