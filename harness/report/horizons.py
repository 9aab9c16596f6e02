"""The speed-up without the bias of crossings: the baseline trained at several lengths.

Each length is a study of its own, with the baseline under the same name. Together their fully
decayed ends give the baseline's law of loss over tokens (`harness.stats.data_efficiency`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.errors import UserError
from harness.report.view import StudyView
from harness.stats.data_efficiency import MINIMUM_HORIZONS, DataEfficiency, data_efficiency


@dataclass(frozen=True, kw_only=True)
class HorizonSpeedup:
    """One variant against the baseline's law; `result` is None where `why_not` has a reason."""

    variant: str
    result: DataEfficiency | None = None
    why_not: str | None = None


def horizon_speedups(view: StudyView, others: Sequence[StudyView]) -> tuple[HorizonSpeedup, ...]:
    """How much more data the baseline would need for each variant's final loss.

    Args:
        view: the study whose variants are judged; its baseline is one of the lengths.
        others: studies of the same baseline, model, data and batch size at other lengths.

    Raises:
        UserError: fewer than 4 lengths, studies that differ in more than their length, or a
            baseline without a final loss for every seed at every length.
    """
    views = {_tokens(item): item for item in (*others, view)}
    mistakes = [message for item in others for message in _differences(view, item)]
    if len(views) < MINIMUM_HORIZONS:
        mistakes.append(
            f"{len(views)} length(s) of {view.baseline}, at least {MINIMUM_HORIZONS} are needed to "
            "fit loss over tokens: add studies with other training.steps"
        )
    for item in views.values():
        if lost := [seed for seed in view.seeds if seed not in item.losses(view.baseline)]:
            mistakes.append(f"{item.name}: {view.baseline} has no final loss for seed(s) {lost}")
    if mistakes:
        raise UserError("\n".join(mistakes))
    horizons = sorted(views)
    table = [[views[t].losses(view.baseline)[seed] for seed in view.seeds] for t in horizons]
    return tuple(_speedups(view, horizons, table))


def _speedups(
    view: StudyView, horizons: Sequence[int], table: Sequence[Sequence[float]]
) -> Iterator[HorizonSpeedup]:
    for variant in view.ranked():
        if variant == view.baseline:
            continue
        losses = view.losses(variant)
        if len(losses) < len(view.seeds):
            yield HorizonSpeedup(variant=variant, why_not="not every seed has a final loss")
            continue
        own = [losses[seed] for seed in view.seeds]
        try:
            found = data_efficiency(
                horizons, table, own, variant_data=_tokens(view), level=view.level
            )
        except ValueError as error:
            yield HorizonSpeedup(variant=variant, why_not=str(error))
        else:
            yield HorizonSpeedup(variant=variant, result=found)


def _tokens(view: StudyView) -> int:
    """Training tokens of one whole run."""
    training = view.study["training"]
    return int(training["steps"] * training["batch_size"] * view.study["data"]["sequence_length"])


def _differences(view: StudyView, other: StudyView) -> Iterator[str]:
    """What must be the same for the two to be points of one law."""
    if view.baseline not in other.variants:
        yield f"{other.name}: there is no variant {view.baseline!r}"
    if view.plan.data_sha256 != other.plan.data_sha256:
        yield f"{other.name}: other data"
    if view.study["model"] != other.study["model"]:
        yield f"{other.name}: another model"
    if view.study["training"]["batch_size"] != other.study["training"]["batch_size"]:
        yield f"{other.name}: another training.batch_size"
