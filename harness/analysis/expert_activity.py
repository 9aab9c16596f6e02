"""What the experts of a variant got and how far they moved, from the reports of its trials."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.training.records import Report


@dataclass(frozen=True)
class ExpertUse:
    """One trial. A period is the time between two reports.

    Args:
        fewest_tokens: assignments in the whole training of the expert that got the fewest.
        its_movement: the movements of that expert in all periods, added up.
        starved_periods: the share of all (expert, period) pairs without a single token.
        starved_movement: the largest movement of an expert in a period without a token; None
            without such a period.
        fed_movement: the median movement of an expert in a period with a token.
    """

    fewest_tokens: int
    its_movement: float
    starved_periods: float
    starved_movement: float | None
    fed_movement: float | None


def expert_use(reports: Sequence[Report]) -> ExpertUse | None:
    """None where no report says what the experts did: a dense model, or an older version."""
    activities = [report.experts for report in reports if report.experts is not None]
    if not activities:
        return None
    tokens = np.array([activity.tokens for activity in activities])  # (periods, layers, E)
    movement = np.array([activity.movement for activity in activities], dtype=float)
    totals = tokens.sum(0).ravel()
    least = int(totals.argmin())
    starved, fed = movement[tokens == 0], movement[tokens > 0]
    return ExpertUse(
        fewest_tokens=int(totals[least]),
        its_movement=float(movement.sum(0).ravel()[least]),
        starved_periods=float((tokens == 0).mean()),
        starved_movement=float(starved.max()) if starved.size else None,
        fed_movement=float(np.median(fed)) if fed.size else None,
    )


def mean_of_known(values: Sequence[float | None]) -> float | None:
    """The mean of those that are not None."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
