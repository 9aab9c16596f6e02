"""The speed-up to quote: how much data the baseline needs for each variant's final loss.

The baseline is trained at several lengths, each with its own full schedule: the horizons of the
study itself, or other studies with the baseline under the same name. The ends of these runs give
the baseline's law of loss over tokens (`harness.analysis.stats.data_efficiency`); where none fits,
the speed-up is read between them (`harness.analysis.stats.between_lengths`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.stats.between_lengths import SpeedupBetween, loss_between, speedup_between
from harness.analysis.stats.data_efficiency import (
    MINIMUM_HORIZONS,
    DataEfficiency,
    data_efficiency,
    fit_power_law,
)
from harness.analysis.stats.equivalence import margin_loss
from harness.analysis.study_results import StudyResults
from harness.errors import UserError
from harness.runs.snapshot import StudySnapshot

Lengths = Mapping[int, Mapping[int, float]]
"""Final losses of the baseline by length in steps, then by seed."""


@dataclass(frozen=True, kw_only=True)
class HorizonSpeedup:
    """One variant against the baseline; `result` is None where `why_not` has a reason.

    `lengths` are those of the baseline in steps, the study's own included.
    """

    variant: str
    lengths: tuple[int, ...]
    result: DataEfficiency | SpeedupBetween | None = None
    why_not: str | None = None


def horizon_speedups(
    study: StudyResults, others: Sequence[StudySnapshot] = ()
) -> tuple[HorizonSpeedup, ...]:
    """How much more data the baseline would need for each variant's final loss.

    One entry for each comparison, in rank order; empty before there is an analysis, and where there
    are neither horizons nor other studies. The intervals of all variants hold together: alpha is
    shared among them.

    Args:
        study: the study whose variants are judged; its baseline is one of the lengths.
        others: studies of the same baseline, model, data and batch size at other lengths, which
            join the study's own horizons.

    Raises:
        UserError: fewer than 4 lengths, or others that differ in more than their length.
    """
    lengths: dict[int, Mapping[int, float]] = {}
    for item in (study, *others):
        for steps, losses in item.losses_by_length(study.baseline).items():
            lengths.setdefault(steps, losses)
    if len(lengths) == 1 and not others:
        return ()
    mistakes = [message for item in others for message in _differences(study, item)]
    if len(lengths) < MINIMUM_HORIZONS:
        mistakes.append(
            f"{len(lengths)} length(s) of {study.baseline}, at least {MINIMUM_HORIZONS} are needed "
            "to fit loss over tokens: add studies with other training.steps"
        )
    if mistakes:
        raise UserError("\n".join(mistakes))
    return tuple(
        _speedup(study, comparison.variant, dict(sorted(lengths.items())))
        for comparison in study.comparisons_in_rank_order()
    )


def _speedup(study: StudyResults, variant: str, lengths: Lengths) -> HorizonSpeedup:
    seeds = [trial.seed for trial in study.compared(variant)[0]]
    own = study.losses(variant)
    if lost := [seed for seed in seeds if seed not in own]:
        why_not = f"no final loss for seed(s) {lost}"
        return HorizonSpeedup(variant=variant, lengths=tuple(lengths), why_not=why_not)
    if lost_lengths := lost_losses(study.baseline, lengths, seeds):
        why_not = "; ".join(lost_lengths)
        return HorizonSpeedup(variant=variant, lengths=tuple(lengths), why_not=why_not)
    table = [[losses[seed] for seed in seeds] for losses in lengths.values()]
    try:
        found = _by_law_or_between(study, list(lengths), table, [own[seed] for seed in seeds])
    except ValueError as error:
        return HorizonSpeedup(variant=variant, lengths=tuple(lengths), why_not=str(error))
    return HorizonSpeedup(variant=variant, lengths=tuple(lengths), result=found)


def _by_law_or_between(
    study: StudyResults,
    lengths: Sequence[int],
    table: Sequence[Sequence[float]],
    own: Sequence[float],
) -> DataEfficiency | SpeedupBetween:
    """Raises ValueError where neither is possible."""
    level, tokens_per_step = study.shared_level, study.settings.tokens_per_step
    at = study.settings.training.steps * tokens_per_step
    tokens = [steps * tokens_per_step for steps in lengths]
    try:
        return data_efficiency(tokens, table, own, variant_data=at, level=level)
    except ValueError as no_law:
        try:
            return speedup_between(tokens, table, own, variant_data=at, level=level)
        except ValueError:
            raise no_law from None


def worth_of_speed(
    percent: float, *, at: float, tokens: Sequence[float], losses: Sequence[float]
) -> float:
    """How many nats lower the baseline ends with so many percent more data than `at`.

    Args:
        tokens, losses: of the baseline's lengths, ascending, the losses averaged over seeds.

    Raises:
        ValueError: no law fits, and it cannot be read between two lengths.
    """
    try:
        return margin_loss(fit_power_law(tokens, losses), data=at, speedup_percent=percent)
    except ValueError as no_law:
        try:
            more = loss_between(tokens, losses, at=at * (1.0 + percent / 100.0))
            return loss_between(tokens, losses, at=at) - more
        except ValueError:
            raise no_law from None


def lost_losses(baseline: str, lengths: Lengths, seeds: Sequence[int]) -> list[str]:
    """Which of the baseline's runs have no final loss: without them there is no law."""
    lost = {
        steps: [seed for seed in seeds if seed not in losses] for steps, losses in lengths.items()
    }
    return [
        f"{baseline} at {steps} steps has no final loss for seed(s) {missing}"
        for steps, missing in lost.items()
        if missing
    ]


def _differences(study: StudySnapshot, other: StudySnapshot) -> Iterator[str]:
    """What must be the same for the two to be points of one law."""
    if study.baseline not in other.variants:
        yield f"{other.name}: there is no variant {study.baseline!r}"
    if study.plan.data_sha256 != other.plan.data_sha256:
        yield f"{other.name}: other data"
    if study.settings.model != other.settings.model:
        yield f"{other.name}: another model"
    if study.settings.training.batch_size != other.settings.training.batch_size:
        yield f"{other.name}: another training.batch_size"
