"""Whether a gang fits: every worker lies on one node, and a sum over nodes does not tell."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UserError
from harness.study.placement import ResourcesConfig
from tune.cluster.capacity import Capacity, check_fits, fits, gangs_that_fit, trials_at_once


@dataclass(frozen=True)
class Shared:
    """One worker on a part of a GPU."""

    gpus_per_worker: float
    workers: int = 1
    cpus_per_worker: int = 1
    placement: str = "pack"


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


@pytest.mark.parametrize(
    ("share", "on_a_gpu"), [(0.25, 4), (0.1, 10), (0.3, 3), (0.4, 2), (0.6, 1), (1 / 3, 3)]
)
def test_no_worker_lies_on_two_gpus(share: float, on_a_gpu: int) -> None:
    assert gangs_that_fit(Shared(share), cluster((64, 1))) == on_a_gpu
    assert gangs_that_fit(Shared(share), cluster((64, 3), (64, 2))) == 5 * on_a_gpu
    assert gangs_that_fit(Shared(share), cluster((1, 3))) == 1, "the cores count as well"
    assert not fits(Shared(share), cluster((64, 0)))


def test_a_strictly_packed_gang_needs_one_node_with_room_for_all_of_it() -> None:
    apart = ResourcesConfig(workers=4, placement="pack")
    packed = ResourcesConfig(workers=4, placement="strict_pack")
    two_of_three = cluster((3, 0), (3, 0))
    assert fits(apart, two_of_three)
    assert fits(ResourcesConfig(workers=4, placement="spread"), two_of_three)
    assert not fits(packed, two_of_three)
    with pytest.raises(UserError, match=r"4 worker.* all on one node"):
        check_fits(packed, two_of_three)
    assert gangs_that_fit(packed, cluster((9, 0), (7, 0), (3, 0))) == 3


def test_equal_shares_and_the_remainder_to_the_older() -> None:
    here = cluster((7, 0))
    shares = [
        trials_at_once(ResourcesConfig(), here, most=None, studies=3, place=place)
        for place in range(3)
    ]
    assert shares == [3, 2, 2]
    assert trials_at_once(ResourcesConfig(), here, most=1, studies=3) == 1
    many = [
        trials_at_once(ResourcesConfig(workers=7), here, most=None, studies=3, place=place)
        for place in range(3)
    ]
    assert many == [1, 1, 1], "each is seen to wait"


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
    assert whole.gangs(gang) * workers * cpus <= sum(cpu for cpu, _ in nodes)
    assert gangs_that_fit(gang, whole) >= 1
