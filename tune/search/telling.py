"""What the searcher is told of a configuration once all its training runs have an outcome."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.runs.search_log import STATES, Ended, Suggested
from harness.training.records import Outcome, Report, worst_outcome

Run = tuple[Outcome, Sequence[Report]]


def verdict_of(suggested: Suggested, runs: Sequence[Run], *, worst_loss: float) -> Ended:
    """The end of a configuration.

    Args:
        runs: outcome and reports of its training run on every tuning seed.
        worst_loss: of a run that diverged, a uniform guess.
    """
    word = worst_outcome([outcome for outcome, _ in runs])
    assert word is not None, "a configuration ends when all its runs have"
    state, step = STATES[word], None
    losses: list[float | None] = []
    if word == "stopped":
        step = min(outcome.step for outcome, _ in runs if outcome.outcome == "stopped")
        losses = [_loss_at(step, reports) for _, reports in runs]
    elif state == "complete":
        losses = [o.validation_loss if o.outcome != "diverged" else None for o, _ in runs]
    known = [worst_loss if loss is None else loss for loss in losses]
    return Ended(
        variant=suggested.variant,
        index=suggested.index,
        outcome=word,
        state=state,
        told=math.fsum(known) / len(known) if known else None,
        step=step,
    )


def _loss_at(step: int, reports: Sequence[Report]) -> float | None:
    """Seeds are compared at the step where the first of them was stopped."""
    return next((r.validation_loss for r in reversed(reports) if r.step == step), None)
