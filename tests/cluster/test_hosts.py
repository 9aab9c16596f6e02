"""Two hosts in namespaces: apart as machines are, joined by a cable, gone with their owner."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from namespace_hosts import Hosts, why_not

LACKING = why_not()
SUPPORT = Path(__file__).parents[1] / "support"

pytestmark = pytest.mark.skipif(LACKING is not None, reason=str(LACKING))

MEET = """
import sys
from datetime import timedelta
import torch
import torch.distributed as dist
from tune.gangs.network import use_interface_of

rank, own, first = int(sys.argv[1]), sys.argv[2], sys.argv[3]
use_interface_of(own)
where, timeout = f"tcp://{first}:23456", timedelta(seconds=60)
dist.init_process_group("gloo", init_method=where, rank=rank, world_size=2, timeout=timeout)
total = torch.tensor([rank + 1.0])
dist.all_reduce(total)
print(total.item())
"""

OWNER = """
import sys
sys.path.insert(0, sys.argv[1])
from namespace_hosts import Hosts
with Hosts("one", "two") as hosts:
    print(*(host.pid for host in hosts.all.values()), hosts.bridge.pid, flush=True)
    hosts["one"].run("sleep", "600", timeout_s=600)
"""


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with Hosts("one", "two") as hosts:
        yield hosts


def test_workers_meet_although_the_name_of_their_host_stands_for_the_loopback(hosts: Hosts) -> None:
    pair = [hosts["one"], hosts["two"]]
    assert [host.run("getent", "hosts", host.name).split()[0] for host in pair] == ["127.0.1.1"] * 2
    workers = [
        subprocess.Popen(
            host.command("python", "-c", MEET, str(rank), host.address, pair[0].address),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, host in enumerate(pair)
    ]
    printed = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [text.splitlines()[-1] for text in printed] == ["3.0", "3.0"], printed


def test_what_one_host_writes_no_other_sees(hosts: Hosts) -> None:
    home = str(Path.home())
    for folder in ("/tmp", "/var/tmp", "/run", "/dev/shm", home):
        hosts["one"].write(f"{folder}/mark", "one")
        assert not hosts["two"].path(f"{folder}/mark").exists()
        assert not Path(f"{folder}/mark").exists()
    everywhere = hosts["one"].command("touch", f"{SUPPORT}/mark", f"{sys.prefix}/mark", "/opt/mark")
    tried = subprocess.run(everywhere, capture_output=True, text=True)
    assert tried.stderr.count("Read-only file system") == 3, tried.stderr


def test_hosts_leave_nothing_behind_when_their_owner_is_killed() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(SUPPORT)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    inside = [int(pid) for pid in owner.stdout.readline().split()]
    theirs = {space for pid in inside for space in namespaces(pid)} - namespaces(os.getpid())
    assert len(inside) == 3
    assert sum(space.startswith("net:") for space in theirs) == 3
    owner.kill()
    owner.wait()
    owner.stdout.close()
    until = time.monotonic() + 30
    while held := theirs & {space for pid in psutil.pids() for space in namespaces(pid)}:
        assert time.monotonic() < until, held
        time.sleep(0.05)
    assert "private-" not in Path("/proc/self/mounts").read_text()
    links = subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout
    assert "to-one" not in links


def namespaces(pid: int) -> set[str]:
    """A namespace lives, with its mounts or links, as long as a process is in it."""
    try:
        return {os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("net", "mnt", "pid", "uts")}
    except OSError:
        return set()
