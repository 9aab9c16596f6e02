"""What a run lacks, cut into requests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.tracking.batches import (
    ENTITIES_PER_BATCH,
    PARAMS_PER_BATCH,
    TAGS_PER_BATCH,
    batches,
)
from harness.tracking.metrics import MetricGroup


def group(step: int, size: int) -> MetricGroup:
    return MetricGroup(values=tuple((f"m{i}", 1.0, step) for i in range(size)), elapsed_s=0.0)


@given(
    st.lists(st.integers(1, ENTITIES_PER_BATCH), max_size=30),
    st.integers(0, 350),
    st.integers(0, 350),
)
def test_no_request_is_too_large_and_no_report_is_cut(
    sizes: list[int], num_params: int, num_tags: int
) -> None:
    groups = [group(step, size) for step, size in enumerate(sizes)]
    params = {f"p{i}": "1" for i in range(num_params)}
    tags = {f"t{i}": "1" for i in range(num_tags)}
    made = list(batches(groups, params, tags))
    assert [held for batch in made for held in batch.groups] == groups
    assert {k: v for batch in made for k, v in batch.params.items()} == params
    assert {k: v for batch in made for k, v in batch.tags.items()} == tags
    for batch in made:
        values = sum(len(held.values) for held in batch.groups)
        assert len(batch.params) <= PARAMS_PER_BATCH
        assert len(batch.tags) <= TAGS_PER_BATCH
        # MLflow's client splits what is larger, and a kill between leaves half a report.
        assert values + len(batch.params) + len(batch.tags) <= ENTITIES_PER_BATCH


def test_a_trial_of_thirty_reports_is_one_request() -> None:
    groups = [group(step, 22) for step in range(30)]
    assert len(list(batches(groups, {f"p{i}": "1" for i in range(80)}, {"a": "b"}))) == 1
