"""The speed-up without the bias of crossings: the baseline trained at several lengths.

Each length is a study of its own, with the baseline under the same name. Together their fully
decayed ends give the baseline's law of loss over tokens (`harness.analysis.stats.data_efficiency`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.analysis.stats.data_efficiency import MINIMUM_HORIZONS, DataEfficiency, data_efficiency
from harness.analysis.study_results import StudyResults
from harness.errors import UserError
from harness.runs.snapshot import StudySnapshot


@dataclass(frozen=True, kw_only=True)
class HorizonSpeedup:
    """One variant against the baseline's law; `result` is None where `why_not` has a reason."""

    variant: str
    result: DataEfficiency | None = None
    why_not: str | None = None


def horizon_speedups(
    study: StudyResults, others: Sequence[StudySnapshot]
) -> tuple[HorizonSpeedup, ...]:
    """How much more data the baseline would need for each variant's final loss.

    Args:
        study: the study whose variants are judged; its baseline is one of the lengths.
        others: studies of the same baseline, model, data and batch size at other lengths.

    Raises:
        UserError: fewer than 4 lengths, studies that differ in more than their length, or a
            baseline without a final loss for every seed at every length.
    """
    views = {_tokens(item): item for item in (*others, study)}
    mistakes = [message for item in others for message in _differences(study, item)]
    if len(views) < MINIMUM_HORIZONS:
        mistakes.append(
            f"{len(views)} length(s) of {study.baseline}, at least {MINIMUM_HORIZONS} are needed "
            "to fit loss over tokens: add studies with other training.steps"
        )
    for item in views.values():
        if lost := [seed for seed in study.seeds if seed not in item.losses(study.baseline)]:
            mistakes.append(f"{item.name}: {study.baseline} has no final loss for seed(s) {lost}")
    if mistakes:
        raise UserError("\n".join(mistakes))
    horizons = sorted(views)
    table = [[views[t].losses(study.baseline)[seed] for seed in study.seeds] for t in horizons]
    return tuple(_speedups(study, horizons, table))


def _speedups(
    study: StudyResults, horizons: Sequence[int], table: Sequence[Sequence[float]]
) -> Iterator[HorizonSpeedup]:
    for variant in study.ranked():
        if variant == study.baseline:
            continue
        losses = study.losses(variant)
        if len(losses) < len(study.seeds):
            yield HorizonSpeedup(variant=variant, why_not="not every seed has a final loss")
            continue
        own = [losses[seed] for seed in study.seeds]
        try:
            found = data_efficiency(
                horizons, table, own, variant_data=_tokens(study), level=study.level
            )
        except ValueError as error:
            yield HorizonSpeedup(variant=variant, why_not=str(error))
        else:
            yield HorizonSpeedup(variant=variant, result=found)


def _tokens(study: StudySnapshot) -> int:
    """Training tokens of one whole run."""
    training = study.settings.training
    return training.steps * training.batch_size * study.settings.data.sequence_length


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
