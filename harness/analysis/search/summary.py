"""From the files of a study to what its search found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from harness.analysis.search.results import (
    Configuration,
    Ledger,
    SearchResult,
    VariantSearch,
)
from harness.analysis.search.selection import best_of, find_edges, score_sd
from harness.runs.search_log import Suggested, Widened, chosen_points
from harness.runs.snapshot import StudySnapshot
from harness.study.search_space import Space
from harness.study.settings import TuningSettings
from harness.training.records import Outcome, worst_outcome

Outcomes = Mapping[str, Outcome | None]  # by trial_key


def summarise_search(study: StudySnapshot) -> SearchResult | None:
    """What the search found so far; None: the study does not search."""
    settings = study.settings.tuning
    if settings is None:
        return None
    events = study.search_events
    outcomes = {trial.key: trial.outcome for trial in study.trials}
    widened = [event for event in events if isinstance(event, Widened)]
    last_round = widened[-1].round if widened else 0
    budget = sum(settings.trials_in_round(index) for index in range(last_round + 1))
    over = chosen_points(events)
    variants = {}
    for variant in study.settings.searched:
        suggested = [e for e in events if isinstance(e, Suggested) and e.variant == variant.name]
        space: Space = widened[-1].spaces[variant.name] if widened else variant.space
        found = tuple(_configuration(event, outcomes) for event in suggested)
        variants[variant.name] = _variant_search(
            variant.name,
            space,
            found,
            settings,
            ledger=_spent(suggested, outcomes),
            finished=variant.name in over or _is_whole(found, budget, settings, last_round),
        )
    return SearchResult(searcher=settings.searcher, variants=variants)


def _is_whole(
    found: Sequence[Configuration], budget: int, settings: TuningSettings, last_round: int
) -> bool:
    """Whether the budget is spent and no later round can come."""
    ended = sum(c.outcome is not None for c in found)
    return ended >= budget and last_round >= settings.last_round


def _variant_search(
    name: str,
    space: Space,
    found: tuple[Configuration, ...],
    settings: TuningSettings,
    *,
    ledger: Ledger,
    finished: bool,
) -> VariantSearch:
    sigma = settings.sigma if settings.sigma is not None else score_sd(found)
    edges = find_edges(space, found, sigma=sigma, edge_fraction=settings.edge_fraction)
    messages = tuple(edge.message for edge in edges)
    best = best_of(found)
    if finished and best is None:
        messages = ("no configuration completed: its own settings were confirmed",)
    return VariantSearch(
        variant=name,
        space=dict(space),
        configurations=found,
        chosen=best if finished else None,
        sigma=sigma,
        edges=messages,
        finished=finished,
        ledger=ledger,
    )


def _configuration(event: Suggested, outcomes: Outcomes) -> Configuration:
    """A suggested configuration with the outcomes of its training runs."""
    ends = {seed: outcomes[key] for seed, key in event.keys.items()}
    losses = {
        seed: outcome.validation_loss
        for seed, outcome in ends.items()
        if outcome is not None
        and outcome.outcome == "completed"
        and outcome.validation_loss is not None
    }
    return Configuration(
        index=event.index,
        round=event.round,
        point=event.point,
        keys=event.keys,
        outcome=worst_outcome(list(ends.values())),
        losses=losses,
        score=sum(losses.values()) / len(losses) if len(losses) == len(ends) else None,
    )


def _spent(suggested: Sequence[Suggested], outcomes: Outcomes) -> Ledger:
    """Adds up what the training runs of these configurations cost."""
    keys = dict.fromkeys(key for event in suggested for key in event.keys.values())
    ended = [outcome for key in keys if (outcome := outcomes[key]) is not None]
    counts = Counter(outcome.outcome for outcome in ended)
    return Ledger(
        configurations=len(suggested),
        training_runs=len(ended),
        completed=counts["completed"],
        stopped=counts["stopped"],
        diverged=counts["diverged"],
        failed=counts["failed"],
        out_of_memory=counts["out_of_memory"],
        tokens=sum(outcome.tokens for outcome in ended),
        hours=sum(outcome.wall_time_s or 0.0 for outcome in ended) / 3600,
    )
