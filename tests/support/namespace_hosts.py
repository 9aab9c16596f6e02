"""Several hosts on one machine: network namespaces joined by a bridge, each with its own disk.

A host has its own address, a name that stands for 127.0.1.1 as Debian sets it up, its own
processes, and its own empty /tmp, /var/tmp, /run, /dev/shm and home folder; it reads the code and
the environment of this machine, and can write nothing that another host sees. All of it lives as
long as this process: when it ends, however it ends, the kernel ends the hosts and their networks.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType

import psutil

ROOT = Path(__file__).resolve().parents[2]
HOST = Path(__file__).with_name("namespace_host.sh")
PRIVATE = (Path("/tmp"), Path("/var/tmp"), Path("/run"), Path("/dev/shm"), Path.home())
SHARED = (ROOT, Path(sys.prefix), Path(sys.base_prefix))

NAMESPACES = ("--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child")
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")

NETWORK, BRIDGE = "10.77.0", "10.77.0.254"


@cache
def why_not() -> str | None:
    """What this machine lacks for hosts; None: nothing."""
    missing = [
        name
        for name in ("unshare", "nsenter", "setpriv", "findmnt", "ip")
        if not shutil.which(name)
    ]
    if missing:
        return f"needs the commands {', '.join(missing)} (util-linux and iproute2)"
    links = "ip link add b0 type bridge && ip link add v0 type veth peer name v1"
    command = [
        "unshare",
        *NAMESPACES,
        "--mount-proc",
        "sh",
        "-ec",
        f"mount -t tmpfs t /tmp; {links}",
    ]
    tried = subprocess.run(command, capture_output=True, text=True)
    if tried.returncode:
        said = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
        return f"needs root with CAP_SYS_ADMIN and CAP_NET_ADMIN (namespaces, mounts, veth): {said}"
    return None


class Host:
    """One of them. `end` is its end of the cable in the bridge's namespace."""

    def __init__(self, name: str, address: str, others: Mapping[str, str]) -> None:
        self.name, self.address, self.end = name, address, f"to-{name}"
        self.started: list[subprocess.Popen[str]] = []
        names = ["127.0.0.1 localhost", f"127.0.1.1 {name}"]
        names += [f"{where} {other}" for other, where in others.items() if other != name]
        hosts_file = _descriptor("\n".join(names) + "\n")
        words = [name, f"/proc/self/fd/{hosts_file}", *map(str, PRIVATE), "--", *map(str, SHARED)]
        self.keeper = subprocess.Popen(
            [*DIES_WITH_US, "unshare", *NAMESPACES, "--mount-proc", "bash", str(HOST), *words],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            pass_fds=[hosts_file],
            text=True,
            start_new_session=True,  # Ctrl-C is for the test, which ends them in its own order
        )
        os.close(hosts_file)
        assert self.keeper.stdout is not None
        assert self.keeper.stdout.readline() == "ready\n", f"host {name} did not start"
        (first,) = psutil.Process(self.keeper.pid).children()
        self.pid = first.pid

    def command(self, *words: str, **environment: str) -> list[str]:
        """`words` as a process of this host, with a clean environment."""
        variables = {
            "PATH": f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(Path.home()),
            "LANG": "C.UTF-8",
            **{k: v for k, v in os.environ.items() if k == "PYTHONPATH"},
            **environment,
        }
        settings = [f"{name}={value}" for name, value in variables.items()]
        inside = ["nsenter", "--target", str(self.pid), "--all", "--wdns=/tmp", "--"]
        return [*DIES_WITH_US, *inside, "env", "--ignore-environment", *settings, *words]

    def run(self, *words: str, timeout_s: float = 120.0, **environment: str) -> str:
        """What it printed.

        Raises:
            AssertionError: it failed.
        """
        ended = subprocess.run(
            self.command(*words, **environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )
        assert ended.returncode == 0, f"{self.name}: {shlex.join(words)}\n{ended.stdout[-4000:]}"
        return ended.stdout

    def start(self, *words: str, output: Path, **environment: str) -> subprocess.Popen[str]:
        """As a process that goes on; what it prints goes to a file outside."""
        with output.open("w") as file:
            process = subprocess.Popen(
                self.command(*words, **environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def write(self, path: str, text: str) -> None:
        """A file of this host, with its folders."""
        words = ["sh", "-c", f"mkdir -p {shlex.quote(str(Path(path).parent))} && cat > {path}"]
        subprocess.run(self.command(*words), input=text, text=True, check=True)

    def path(self, inside: str) -> Path:
        """Where this machine sees a file of the host; resolved, it would be another one's."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def fetch(self, inside: str, to: Path, *, leave_out: str = "") -> Path:
        """A copy of a folder of the host as it is now; what vanishes meanwhile is not in it."""
        to.mkdir(exist_ok=True)
        with suppress(shutil.Error, FileNotFoundError):
            ignore = shutil.ignore_patterns(leave_out)
            shutil.copytree(self.path(inside), to, ignore=ignore, dirs_exist_ok=True)
        return to

    def processes(self) -> Iterator[psutil.Process]:
        """All of them, as this machine sees them."""
        namespace = os.readlink(f"/proc/{self.pid}/ns/pid")
        for process in psutil.process_iter():
            try:
                if os.readlink(f"/proc/{process.pid}/ns/pid") == namespace:
                    yield process
            except OSError:
                continue

    def kill(self) -> None:
        """Every process at once, and with them disk and network."""
        self.keeper.kill()
        for process in (self.keeper, *self.started):
            process.wait()
        if self.keeper.stdout is not None:
            self.keeper.stdout.close()


class Hosts:
    """Hosts by name, from 10.77.0.1 on, on one bridge; all gone at exit."""

    def __init__(self, *names: str) -> None:
        self.addresses = {name: f"{NETWORK}.{i}" for i, name in enumerate(names, start=1)}
        self.all: dict[str, Host] = {}

    def __enter__(self) -> Hosts:
        self.bridge = subprocess.Popen(
            [*DIES_WITH_US, "unshare", "--net", "sleep", "infinity"], start_new_session=True
        )
        try:
            self._until_apart()
            self._at_bridge(f"ip link add bridge type bridge && ip addr add {BRIDGE}/24 dev bridge")
            self._at_bridge("ip link set bridge up")
            for name in self.addresses:
                self.add(name)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for host in self.all.values():
            host.kill()
        self.bridge.kill()
        self.bridge.wait()

    def __getitem__(self, name: str) -> Host:
        return self.all[name]

    def add(self, name: str) -> Host:
        """A host with an empty disk at the address of this name, which nobody may have now."""
        host = self.all[name] = Host(name, self.addresses[name], self.addresses)
        self._at_bridge(
            f"ip link add {host.end} type veth peer name eth0 netns {host.pid} && "
            f"ip link set {host.end} master bridge up"
        )
        host.run("ip", "addr", "add", f"{host.address}/24", "dev", "eth0")
        host.run("ip", "link", "set", "eth0", "up")
        host.run("ip", "route", "add", "default", "via", BRIDGE)
        return host

    def kill(self, name: str) -> None:
        """As by a power cut; the cable goes first, because the kernel takes its time with it."""
        self._at_bridge(f"ip link delete {self.all[name].end}")
        self.all[name].kill()

    def cut(self, name: str) -> None:
        """Pulls the cable."""
        self._at_bridge(f"ip link set {self.all[name].end} down")

    def join(self, name: str) -> None:
        """Puts it in again."""
        self._at_bridge(f"ip link set {self.all[name].end} up")

    def _at_bridge(self, command: str) -> None:
        inside = ["nsenter", "--target", str(self.bridge.pid), "--net", "sh", "-ec", command]
        subprocess.run(inside, check=True)

    def _until_apart(self) -> None:
        """`unshare` has left our network."""
        ours = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self.bridge.pid}/ns/net") == ours:
            assert self.bridge.poll() is None, "unshare --net failed"


def _descriptor(text: str) -> int:
    """A file without a name."""
    descriptor = os.memfd_create("hosts")
    os.write(descriptor, text.encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
