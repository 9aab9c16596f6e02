"""Whether a gang fits: every worker lies on one node, and a sum over nodes does not tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UserError
from harness.study.settings import ResourcesConfig
from tune.capacity import Capacity, check_fits, fits, gangs_that_fit


def cluster(*nodes: tuple[float, float]) -> Capacity:
    return Capacity(nodes=nodes, where="this cluster")


def test_a_worker_does_not_lie_on_two_nodes() -> None:
    wide = ResourcesConfig(workers=1, cpus_per_worker=2)
    assert not fits(wide, cluster((1, 0), (1, 0)))
    assert fits(wide, cluster((1, 0), (2, 0)))
    with pytest.raises(UserError, match=r"one trial needs 1 worker.* 2 CPU core.* every worker on"):
        check_fits(wide, cluster((1, 0), (1, 0)))


def test_a_gang_may_lie_on_several_nodes() -> None:
    pair = ResourcesConfig(workers=2, cpus_per_worker=2)
    assert gangs_that_fit(pair, cluster((3, 0), (3, 0))) == 1
    assert gangs_that_fit(pair, cluster((4, 0), (2, 0), (2, 0))) == 2


def test_gpus_count_where_workers_need_them() -> None:
    gpu = ResourcesConfig(workers=2, gpus_per_worker=1)
    assert not fits(gpu, cluster((16, 1)))
    assert gangs_that_fit(gpu, cluster((16, 4), (16, 0))) == 2


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=6),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 1),
)
def test_what_fits_on_a_part_fits_on_the_whole(
    nodes: list[tuple[int, int]], workers: int, cpus: int, gpus: int
) -> None:
    gang = ResourcesConfig(workers=workers, cpus_per_worker=cpus, gpus_per_worker=gpus)
    whole = cluster(*nodes)
    assert fits(gang, whole) >= fits(gang, cluster(*nodes[:-1]))
    assert whole.workers(gang) * cpus <= sum(cpu for cpu, _ in nodes)
    assert gangs_that_fit(gang, whole) >= 1
