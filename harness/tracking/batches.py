"""What a run lacks, in as few requests as MLflow's limits allow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from harness.tracking.metrics import MetricGroup
from harness.tracking.run_records import RunRecord

# MLflow's own limits of one request (mlflow.utils.validation): of each kind, and of all together.
# Its client would split a larger one in two, in the middle of a report.
PARAMS_PER_BATCH, TAGS_PER_BATCH, ENTITIES_PER_BATCH = 100, 100, 1000

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One request: the store keeps all metrics of it or none."""

    groups: tuple[MetricGroup, ...]
    params: dict[str, str]
    tags: dict[str, str]


def batches(
    groups: Sequence[MetricGroup], params: Mapping[str, str], tags: Mapping[str, str]
) -> Iterator[Batch]:
    """As many whole groups as fit into each request, so that none is ever written by half."""
    left, more_params, more_tags = list(groups), list(params.items()), list(tags.items())
    while left or more_params or more_tags:
        some_params, more_params = _split(more_params, PARAMS_PER_BATCH)
        some_tags, more_tags = _split(more_tags, TAGS_PER_BATCH)
        room = ENTITIES_PER_BATCH - len(some_params) - len(some_tags)
        some_groups, left = _split(left, _how_many_fit(left, room))
        assert some_groups or some_params or some_tags, "one report is too large for one request"
        yield Batch(groups=tuple(some_groups), params=dict(some_params), tags=dict(some_tags))


def _split(items: list[T], at: int) -> tuple[list[T], list[T]]:
    return items[:at], items[at:]


def _how_many_fit(groups: Sequence[MetricGroup], room: int) -> int:
    for count, group in enumerate(groups):
        room -= len(group.values)
        if room < 0:
            return count
    return len(groups)


def missing_groups(held: Mapping[str, float], record: RunRecord) -> list[MetricGroup]:
    """The groups that the run does not hold, by the latest value of the record's marker.

    The last report of a trial may be there from before the trial ended; then its final loss is not.

    Args:
        held: the latest value of each metric of the run.
    """
    written = held.get(record.marker, -1.0)
    groups = [group for group in record.groups if record.marker_of(group) > written]
    if groups or not record.groups or record.marker_of(record.groups[-1]) < written:
        return groups
    last = record.groups[-1]
    late = tuple(value for value in last.values if value[0] not in held)
    return [replace(last, values=late)] if late else []
