"""Where the workers of a gang meet, and over which interface. Knows nothing of Ray."""

from __future__ import annotations

import ipaddress
import os
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

INTERFACE_VARIABLES = {"GLOO_SOCKET_IFNAME": "{}", "NCCL_SOCKET_IFNAME": "={}"}
"""How each library is told a name: to NCCL `eth1` alone would also be `eth10`."""

LOOPBACK = "127.0.0.1"

TRIES = 50


def meeting_address(members: Sequence[Mapping[str, Any]]) -> str:
    """Where worker 0 is met: at the loopback if all members share its host.

    Args:
        members: by rank, with the `host` and `address` of each.
    """
    return LOOPBACK if len({host_of(member) for member in members}) == 1 else members[0]["address"]


def host_of(member: Mapping[str, Any]) -> tuple[str, str]:
    """What two workers share that lie on one host: two containers of a host have two addresses."""
    return member["address"], member["host"]


def interface_of(address: str) -> str | None:
    """The network interface of this host that holds an address; None: no interface does.

    By itself gloo takes the one that the host name resolves to: on Debian the loopback, where no
    other host can be met.
    """
    wanted = ipaddress.ip_address(address)
    for name, addresses in psutil.net_if_addrs().items():
        for held in addresses:
            if held.family.name in ("AF_INET", "AF_INET6") and wanted == _parsed(held.address):
                return str(name)
    return None


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(address.partition("%")[0])  # fe80::1%eth0


def use_interface_of(address: str) -> None:
    """Tells gloo and NCCL, in this process, which interface to use; what the user has set stays.

    An address that no interface holds, as behind a translation of addresses, leaves them to guess.
    """
    name = interface_of(address)
    for variable, form in INTERFACE_VARIABLES.items():
        if os.environ.get(variable) in (None, "", _set_here.get(variable)):
            _set(variable, None if name is None else form.format(name))


_set_here: dict[str, str] = {}
"""What this process was told by us before, and may be told anew."""


def _set(variable: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(variable, None)
        _set_here.pop(variable, None)
    else:
        os.environ[variable] = _set_here[variable] = value


def open_meeting(ports: Sequence[int]) -> TCPStore:
    """A store that listens at a port of a range from now on, so that no other process gets it.

    Args:
        ports: The first and the last one of the range.

    Raises:
        OSError: no port was free.
    """
    from torch.distributed import DistNetworkError, TCPStore  # type: ignore[attr-defined]

    first, last = ports
    for port in random.sample(range(first, last + 1), min(TRIES, last + 1 - first)):
        try:
            return TCPStore(LOOPBACK, port, is_master=True, wait_for_workers=False)
        except DistNetworkError:
            continue  # somebody else has it
    raise OSError(
        f"address already in use: no free port found from {first} to {last} (resources.ports)"
    )
