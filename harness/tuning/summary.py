"""From a study's files to what its search found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.config import Study
from harness.journal import Chosen, Journal, Suggested, Widened
from harness.results import Outcome, OutcomeWord, StudyFolder
from harness.study import load_plan
from harness.tuning.records import Configuration, Ledger, Tuning, VariantTuning
from harness.tuning.selection import best_of, find_edges, score_sd
from harness.tuning_settings import Space, TuningSettings

# From best to worst: a configuration is as bad as its worst training run.
SEVERITY: tuple[OutcomeWord, ...] = (
    "completed",
    "stopped",
    "diverged",
    "out_of_memory",
    "failed",
)


def load(folder: StudyFolder) -> Tuning | None:
    """What the search of the study in `folder` found so far; None: it does not search.

    Raises:
        UserError: no plan there, or one that was changed by hand.
    """
    return summarise(Study.model_validate(load_plan(folder).study), folder)


def summarise(study: Study, folder: StudyFolder) -> Tuning | None:
    """As `load`, for a study that is at hand."""
    settings = study.tuning
    if settings is None:
        return None
    events = Journal(folder.path).events()
    widened = [event for event in events if isinstance(event, Widened)]
    last_round = widened[-1].round if widened else 0
    budget = sum(settings.trials_in_round(index) for index in range(last_round + 1))
    over = {event.variant for event in events if isinstance(event, Chosen)}
    variants = {}
    for variant in study.variants:
        suggested = [e for e in events if isinstance(e, Suggested) and e.variant == variant.name]
        space: Space = widened[-1].spaces[variant.name] if widened else variant.space
        found = tuple(configuration(event, folder) for event in suggested)
        variants[variant.name] = _variant_tuning(
            variant.name,
            space,
            found,
            settings,
            ledger=spent(suggested, folder),
            finished=variant.name in over or _is_whole(found, budget, settings, last_round),
        )
    return Tuning(searcher=settings.searcher, variants=variants)


def _is_whole(
    found: Sequence[Configuration], budget: int, settings: TuningSettings, last_round: int
) -> bool:
    """Whether the budget is spent and no later round can come."""
    ended = sum(c.outcome is not None for c in found)
    return ended >= budget and last_round >= settings.last_round


def _variant_tuning(
    name: str,
    space: Space,
    found: tuple[Configuration, ...],
    settings: TuningSettings,
    *,
    ledger: Ledger,
    finished: bool,
) -> VariantTuning:
    sigma = settings.sigma if settings.sigma is not None else score_sd(found)
    edges = find_edges(space, found, sigma=sigma, edge_fraction=settings.edge_fraction)
    messages = tuple(edge.message for edge in edges)
    best = best_of(found)
    if finished and best is None:
        messages = ("no configuration completed: its own settings were confirmed",)
    return VariantTuning(
        variant=name,
        space=dict(space),
        configurations=found,
        chosen=best if finished else None,
        sigma=sigma,
        edges=messages,
        finished=finished,
        ledger=ledger,
    )


def configuration(event: Suggested, folder: StudyFolder) -> Configuration:
    """A suggested configuration with the outcomes of its training runs."""
    outcomes = {seed: folder.trial(key).outcome() for seed, key in event.keys.items()}
    losses = {
        seed: outcome.validation_loss
        for seed, outcome in outcomes.items()
        if outcome is not None
        and outcome.outcome == "completed"
        and outcome.validation_loss is not None
    }
    return Configuration(
        index=event.index,
        round=event.round,
        point=event.point,
        keys=event.keys,
        outcome=worst_outcome(list(outcomes.values())),
        losses=losses,
        score=sum(losses.values()) / len(losses) if len(losses) == len(outcomes) else None,
    )


def worst_outcome(outcomes: Sequence[Outcome | None]) -> OutcomeWord | None:
    """The worst word; None while one of them is missing."""
    words = [outcome.outcome for outcome in outcomes if outcome is not None]
    return max(words, key=SEVERITY.index) if len(words) == len(outcomes) else None


def spent(suggested: Sequence[Suggested], folder: StudyFolder) -> Ledger:
    """Adds up what the training runs of these configurations cost."""
    keys = dict.fromkeys(key for event in suggested for key in event.keys.values())
    outcomes = [o for key in keys if (o := folder.trial(key).outcome()) is not None]
    counts = Counter(outcome.outcome for outcome in outcomes)
    return Ledger(
        configurations=len(suggested),
        training_runs=len(outcomes),
        completed=counts["completed"],
        stopped=counts["stopped"],
        diverged=counts["diverged"],
        failed=counts["failed"],
        out_of_memory=counts["out_of_memory"],
        tokens=sum(outcome.tokens for outcome in outcomes),
        hours=sum(outcome.wall_time_s or 0.0 for outcome in outcomes) / 3600,
    )
