"""Ranks by host, and what each worker of a gang shares with its neighbours there."""

from __future__ import annotations

import os
from typing import Any

import ray
from hypothesis import given
from hypothesis import strategies as st

from tune.gangs.gang import Gang
from tune.gangs.network import host_of, meeting_address
from tune.gangs.seating import order_by_host, seats


def place(address: str, *gpus: str, host: str = "host") -> dict[str, Any]:
    return {"address": address, "host": host, "gpus": list(gpus)}


places = st.lists(
    st.builds(place, st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"])), min_size=1, max_size=9
)


@given(places)
def test_neighbours_on_a_host_have_neighbouring_ranks(found: list[dict[str, Any]]) -> None:
    order = order_by_host(found)
    assert sorted(order) == list(range(len(found)))
    hosts = [host_of(found[index]) for index in order]
    runs = [host for i, host in enumerate(hosts) if i == 0 or hosts[i - 1] != host]
    assert len(runs) == len(set(hosts))


@given(places)
def test_local_ranks_count_the_members_of_each_host(found: list[dict[str, Any]]) -> None:
    ranked = [found[index] for index in order_by_host(found)]
    taken = seats(ranked)
    for host in {host_of(each) for each in ranked}:
        own = [s for s, each in zip(taken, ranked, strict=True) if host_of(each) == host]
        assert [s.local_rank for s in own] == list(range(len(own)))
        assert {s.local_workers for s in own} == {len(own)}


def test_members_on_a_host_see_all_of_their_gpus_each_its_own_by_local_rank() -> None:
    found = [place("10.0.0.1", "10"), place("10.0.0.2", "0"), place("10.0.0.1", "2")]
    ranked = [found[index] for index in order_by_host(found)]
    assert [each["gpus"] for each in ranked] == [["2"], ["10"], ["0"]]
    first, second, other = seats(ranked)
    assert first.devices == second.devices == ("2", "10")
    assert [ranked[r]["gpus"][0] for r in (0, 1)] == [
        seat.devices[seat.local_rank] for seat in (first, second)
    ]
    assert other.devices == ("0",)
    assert other.local_rank == 0


def test_a_gang_on_one_host_meets_at_the_loopback_and_one_on_several_at_addresses() -> None:
    together = [place("10.0.0.1"), place("10.0.0.1")]
    assert meeting_address(together) == "127.0.0.1"
    assert {seat.interface_of for seat in seats(together)} == {"127.0.0.1"}

    apart = [place("10.0.0.1"), place("10.0.0.2")]
    assert meeting_address(apart) == "10.0.0.1"
    assert [seat.interface_of for seat in seats(apart)] == ["10.0.0.1", "10.0.0.2"]


def test_workers_take_the_devices_of_their_seats_before_anything_asks_for_one() -> None:
    """On GPUs that Ray only counts: what a worker sees is its own environment."""
    gang = Gang(num_workers=2, cpus=1, gpus=1)
    try:
        gang._sit_down()
        assert [place["gpus"] for place in gang.places] == [["0"], ["1"]]
        seen = [ray.get(worker.__ray_call__.remote(_visible_devices)) for worker in gang.workers]
        assert seen == ["0,1", "0,1"]
    finally:
        gang.kill()


def _visible_devices(_: Any) -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")
