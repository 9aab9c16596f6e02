"""Who sits where in a gang: ranks by host, and what each worker shares with its neighbours there.

Knows nothing of Ray: values in, values out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tune.gangs.network import LOOPBACK, host_of


@dataclass(frozen=True, kw_only=True)
class Seat:
    """Of one worker.

    Args:
        local_rank, local_workers: Its place among the members of the gang on its host, and how many
            they are.
        devices: Ids of the GPUs of all of these members: NCCL reaches a neighbour's memory only
            where it sees its device (one visible device for each has hung on NVSwitch hosts, and
            Ray Train shows them all as well). The worker's own is number `local_rank`.
        interface_of: The address whose interface the worker uses to reach the others.
    """

    local_rank: int
    local_workers: int
    devices: tuple[str, ...]
    interface_of: str


def order_by_host(places: Sequence[Mapping[str, Any]]) -> list[int]:
    """The indices of the workers in the order of their ranks: neighbours on a host are neighbours.

    Hosts come in the order in which Ray placed them, GPUs in that of their ids.
    """
    hosts = list(dict.fromkeys(host_of(place) for place in places))

    def rank(index: int) -> tuple[int, list[tuple[int, str]], int]:
        gpus = [_in_order(gpu) for gpu in places[index]["gpus"]]
        return hosts.index(host_of(places[index])), gpus, index

    return sorted(range(len(places)), key=rank)


def _in_order(gpu: str) -> tuple[int, str]:
    """2 before 10; a part of a GPU is named by letters."""
    return (int(gpu), gpu) if gpu.isdigit() else (-1, gpu)


def seats(places: Sequence[Mapping[str, Any]]) -> list[Seat]:
    """Of every worker, by rank."""
    neighbours: dict[tuple[str, str], list[int]] = {}
    for rank, place in enumerate(places):
        neighbours.setdefault(host_of(place), []).append(rank)
    together = len(neighbours) == 1
    found = []
    for rank, place in enumerate(places):
        local = neighbours[host_of(place)]
        found.append(
            Seat(
                local_rank=local.index(rank),
                local_workers=len(local),
                devices=tuple(gpu for each in local for gpu in places[each]["gpus"]),
                interface_of=LOOPBACK if together else place["address"],
            )
        )
    return found
