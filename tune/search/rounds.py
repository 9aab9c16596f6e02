"""The course of a search: rounds of equal budgets, then a choice for every variant.

Round 0 searches the spaces of the study file. When `extend` is on and a variant's best lies at an
edge, a further round searches widened spaces; every variant gets its trials, also those whose best
lay inside, so that the budgets stay equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from harness.analysis.search.results import VariantSearch
from harness.analysis.search.selection import Edge, best_of, find_edges
from harness.analysis.search.summary import summarise_search
from harness.runs.folder import StudyFolder
from harness.runs.search_log import Chosen, SearchLog, Widened
from harness.runs.snapshot import load_snapshot
from harness.study.search_space import Dimension, Space
from harness.study.study_file import Study, VariantConfig


@dataclass(frozen=True, kw_only=True)
class Round:
    """What is searched at equal budgets, one configuration of each variant after another."""

    index: int
    spaces: Mapping[str, Space]
    trials: int


def next_round(study: Study, folder: StudyFolder) -> Round | None:
    """The round to run or to continue; None when every variant's configuration is chosen.

    Writes the widening of the spaces, or the choices, into the search log when a round is over.
    """
    snapshot = load_snapshot(folder)
    search, settings, events = summarise_search(snapshot), study.tuning, snapshot.search_events
    assert search is not None, "only a study with [tuning] has rounds"
    assert settings is not None
    if any(isinstance(event, Chosen) for event in events):
        _choose(folder, search.variants)
        return None
    index = max((e.round for e in events if isinstance(e, Widened)), default=0)
    current = Round(
        index=index,
        spaces={name: variant.space for name, variant in search.variants.items()},
        trials=settings.trials_in_round(index),
    )
    if not _is_over(current, search.variants):
        return current
    if index < settings.last_round and (widened := _widen(study, search.variants)):
        spaces = {name: dict(space) for name, space in current.spaces.items()}
        for name, (space, _) in widened.items():
            spaces[name] = space
        why = {name: messages for name, (_, messages) in widened.items()}
        SearchLog(folder.path).append(Widened(round=index + 1, spaces=spaces, why=why))
        return next_round(study, folder)
    _choose(folder, search.variants)
    return None


def _is_over(current: Round, variants: Mapping[str, VariantSearch]) -> bool:
    return all(
        sum(c.round == current.index and c.outcome is not None for c in variant.configurations)
        >= current.trials
        for variant in variants.values()
    )


def _widen(
    study: Study, variants: Mapping[str, VariantSearch]
) -> dict[str, tuple[dict[str, Dimension], list[str]]]:
    """Widened spaces, with the reasons, of the variants whose best lies at an edge."""
    assert study.tuning is not None
    widened = {}
    for variant in study.searched:
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


def _choose(folder: StudyFolder, variants: Mapping[str, VariantSearch]) -> None:
    """Writes the choice of every variant that has none yet."""
    log = SearchLog(folder.path)
    decided = {event.variant for event in log.events() if isinstance(event, Chosen)}
    for name, variant in variants.items():
        if name not in decided:
            best = best_of(variant.configurations)
            log.append(
                Chosen(
                    variant=name,
                    index=best.index if best else None,
                    point=best.point if best else {},
                )
            )
