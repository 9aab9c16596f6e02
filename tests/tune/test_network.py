"""The interface of an address, and a port that is held from the moment it is chosen."""

from __future__ import annotations

import os
import socket

import psutil
import pytest

from tune.gangs import network
from tune.gangs.network import INTERFACE_VARIABLES, interface_of, open_meeting, use_interface_of


def test_every_address_of_this_machine_leads_to_its_interface() -> None:
    for name, addresses in psutil.net_if_addrs().items():
        for held in addresses:
            if held.family in (socket.AF_INET, socket.AF_INET6):
                assert interface_of(held.address.partition("%")[0]) == name
    assert interface_of("198.51.100.7") is None  # kept for documentation


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(network, "_set_here", {})
    for name in INTERFACE_VARIABLES:
        monkeypatch.setenv(name, "")  # given back at the end, whatever is done to it
    return monkeypatch


def test_gloo_and_nccl_are_told_the_interface(environment: pytest.MonkeyPatch) -> None:
    loopback = interface_of("127.0.0.1")
    use_interface_of("127.0.0.1")
    assert [os.environ[name] for name in INTERFACE_VARIABLES] == [loopback, f"={loopback}"]
    use_interface_of("198.51.100.7")
    assert not any(name in os.environ for name in INTERFACE_VARIABLES)


def test_what_the_user_has_set_stays(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("GLOO_SOCKET_IFNAME", "ib0")
    use_interface_of("127.0.0.1")
    assert os.environ["GLOO_SOCKET_IFNAME"] == "ib0"
    assert os.environ["NCCL_SOCKET_IFNAME"] == f"={interface_of('127.0.0.1')}"


def test_a_port_is_taken_from_the_range_and_held() -> None:
    first = open_meeting((23_000, 23_999))
    assert 23_000 <= first.port <= 23_999
    with pytest.raises(OSError, match="address already in use: no free port found from"):
        open_meeting((first.port, first.port))
    port = first.port
    del first
    assert open_meeting((port, port)).port == port
