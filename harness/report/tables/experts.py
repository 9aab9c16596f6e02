"""Which experts got tokens, and whether those without any moved."""

from __future__ import annotations

import statistics

from harness.analysis.expert_activity import ExpertUse, expert_use, mean_of_known
from harness.analysis.study_results import StudyResults
from harness.report import numbers
from harness.report.elements import Table, left, right, table


def expert_movement(study: StudyResults) -> Table | None:
    """Experts with the fewest tokens, and the movement of experts that got none."""
    rows = []
    for variant in study.ranked():
        trials = [trial for trial in study.of(variant) if trial.completed]
        found = [use for trial in trials if (use := expert_use(trial.reports)) is not None]
        if found:
            rows.append((variant, *_row(found)))
    if not rows:
        return None
    columns = [*left("variant"), *right("fewest tokens of an expert", "movement of that expert")]
    columns += right("periods without a token", "largest movement in one")
    columns += right("median movement in a period with tokens")
    return table(
        "Tokens and movement of the experts",
        columns,
        rows,
        note="In training, mean over the completed seeds; of the largest movement the largest of "
        "any seed. A period lies between two reports. Tokens are assignments: with k experts a "
        "token each token counts k times. Movement is the L2 norm of the change of all weights of "
        "an expert in a period, added up over the periods in the third column. An expert without a "
        "token has no gradient: what moves it then is old momentum and weight decay. Muon with "
        'starved_matrices = "orthogonalize" moves it at full size, with "skip" only decays it.',
    )


def _row(found: list[ExpertUse]) -> tuple[str, ...]:
    drifts = [use.starved_movement for use in found if use.starved_movement is not None]
    return (
        numbers.quantity(round(statistics.fmean(use.fewest_tokens for use in found))),
        numbers.decimal(statistics.fmean(use.its_movement for use in found)),
        numbers.percent(statistics.fmean(use.starved_periods for use in found)),
        numbers.decimal(max(drifts), digits=3) if drifts else numbers.MISSING,
        numbers.decimal(mean_of_known([use.fed_movement for use in found])),
    )
