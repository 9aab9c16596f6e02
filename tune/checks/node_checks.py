"""What a node's report means: whether trials would fail there, or compute something else.

Knows nothing of Ray: values in, findings out. The check before the first trial and `optbench
doctor` judge by the same rules.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tune.checks.findings import Finding, Level, failure, ok, warning
from tune.checks.node_report import CACHE, RAY_FILES, RUNS, SHARED_MEMORY, Folder, NodeReport

MIB, GIB = 1 << 20, 1 << 30

NEEDED_BYTES = {
    CACHE: (128 * MIB, 2 * GIB),
    RUNS: (128 * MIB, 2 * GIB),
    RAY_FILES: (128 * MIB, 2 * GIB),
    SHARED_MEMORY: (0, GIB),
}
"""Free space below which a study fails soon, and below which it may: a quickstart's data and
results are a few MiB, a checkpoint of the largest model in `studies/` is below 1 GiB."""

ADVICE = {
    CACHE: "make room, or set OPTBENCH_CACHE to another folder (on a node: before `ray start`)",
    RUNS: "make room, or choose another one with --runs-dir",
    RAY_FILES: "make room, or start Ray elsewhere: `ray start --temp-dir`, or RAY_TMPDIR",
    SHARED_MEMORY: "in a container give it more: `--shm-size=4g` of Docker and Podman; Ray keeps "
    "its objects on the disk otherwise",
}

RAY_CALLS_FULL = 0.95
"""Ray's `local_fs_capacity_threshold`: from there on it writes no object to this disk."""

SLOW_BYTES_PER_S = 0.1e9
"""Gigabit Ethernet carries 0.12 GB/s; below it something other than the cable is the limit."""

CLOCK_WARNING_S = 1.0
"""Times of attempts are written with a second's precision."""


def problems(where: str, node: NodeReport, driver: NodeReport) -> Iterator[Finding]:
    """What a run must know of a node before it trains there: failures stop it."""
    yield _packages(where, node)
    yield _code(where, node, driver)
    yield _python(where, node, driver)
    yield _libraries(where, node, driver)
    for purpose, folder in node.folders.items():
        yield folder_finding(where, purpose, folder)


def comforts(
    where: str, node: NodeReport, *, gpus_of_ray: float | None = None
) -> Iterator[Finding]:
    """What `optbench doctor` tells beyond it.

    Args:
        gpus_of_ray: how many Ray gives away there; None where there is no Ray.
    """
    yield devices(where, node, gpus_of_ray)
    yield niceness(where, node.niceness)


def _packages(where: str, node: NodeReport) -> Finding:
    if not node.strangers:
        return ok("packages", "harness, models, optimizers and tune are ours", where=where)
    listed = ", ".join(f"{name} is {path or 'missing'}" for name, path in node.strangers.items())
    return failure(
        "packages",
        f"another package has the name of one of ours: {listed}",
        "uninstall that package, or install optbench in an environment of its own",
        where=where,
    )


def _code(where: str, node: NodeReport, driver: NodeReport) -> Finding:
    has, drives = node.hardware, driver.hardware
    if has.code == drives.code:
        return ok("code", f"{has.version}, sources {has.code}", where=where)
    return failure(
        "code",
        f"it has other code ({has.version}, sources {has.code[:8]}) than the driver "
        f"({drives.version}, sources {drives.code[:8]})",
        "install the same version",
        where=where,
    )


def _python(where: str, node: NodeReport, driver: NodeReport) -> Finding:
    if node.python == driver.python:
        return ok("python", node.python, where=where)
    found = f"it has Python {node.python}, the driver {driver.python}"
    if node.python.split(".")[:2] == driver.python.split(".")[:2]:
        return warning("python", found, "install the same one; Ray may refuse it", where=where)
    return failure("python", found, "install the same one", where=where)


def _libraries(where: str, node: NodeReport, driver: NodeReport) -> Finding:
    """The build behind the `+` may differ: a driver without a GPU, workers with one."""
    differ = [
        f"{name} {version or 'not at all'} (the driver: {driver.libraries[name] or 'not at all'})"
        for name, version in node.libraries.items()
        if not version or _public(version) != _public(driver.libraries[name])
    ]
    if differ:
        return failure(
            "libraries",
            f"it has {', '.join(differ)}",
            "install the versions of constraints.txt on every node: another one may compute "
            "other numbers",
            where=where,
        )
    found = ", ".join(f"{name} {version}" for name, version in node.libraries.items())
    return ok("libraries", found, where=where)


def _public(version: str) -> str:
    return version.partition("+")[0]


def folder_finding(where: str, purpose: str, folder: Folder) -> Finding:
    """Whether it can be written and how much room there is."""
    fails_below, warns_below = NEEDED_BYTES[purpose]
    more: dict[str, Any] = {
        "where": where,
        "figures": {"path": folder.path, "free_bytes": folder.free_bytes},
    }
    advice = ADVICE[purpose]
    full = 1 - folder.free_bytes / folder.total_bytes if folder.total_bytes else 0.0
    room = f"{folder.path}: {amount(folder.free_bytes)} free"
    if not folder.writable:
        what = "cannot be written" if folder.exists else "is not there and cannot be made"
        # Data that lies there can still be read.
        worse = warning if folder.exists and purpose == CACHE else failure
        return worse(purpose, f"{folder.path} {what}", advice, **more)
    if folder.free_bytes < fails_below:
        return failure(purpose, room, advice, **more)
    if purpose == RAY_FILES and full > RAY_CALLS_FULL:
        room += f", {full:.0%} full, and Ray writes nothing more from {RAY_CALLS_FULL:.0%} on"
        return warning(purpose, room, advice, **more)
    if folder.free_bytes < warns_below:
        return warning(purpose, room, advice, **more)
    return ok(purpose, f"{folder.path}: over {_rounded_down(folder.free_bytes)} free", **more)


def _rounded_down(size_bytes: int) -> str:
    """To a power of two, so that nodes that are alike can be told in one line."""
    return amount(1 << max(0, size_bytes.bit_length() - 1))


def amount(size_bytes: int) -> str:
    if size_bytes < GIB:
        return f"{size_bytes / MIB:.0f} MiB"
    return (
        f"{size_bytes / GIB:.0f} GiB" if size_bytes >= 10 * GIB else f"{size_bytes / GIB:.1f} GiB"
    )


def devices(where: str, node: NodeReport, gpus_of_ray: float | None) -> Finding:
    names = ", ".join(dict.fromkeys(node.gpus))
    found = f"{node.cpus} CPU cores, {len(node.gpus)} GPUs" + (f" ({names})" if names else "")
    figures = {"cpus": node.cpus, "gpus": list(node.gpus), "niceness": node.niceness}
    if gpus_of_ray is not None and gpus_of_ray > len(node.gpus):
        return failure(
            "devices",
            f"Ray gives away {gpus_of_ray:g} GPUs and torch sees {len(node.gpus)}",
            "install the CUDA build of torch and a driver that it works with, or `ray start "
            "--num-gpus=0`",
            where=where,
            figures=figures,
        )
    return ok("devices", found, where=where, figures=figures)


def niceness(where: str, value: int) -> Finding:
    if value <= 0:
        return ok("niceness", f"workers run at niceness {value}", where=where)
    return warning(
        "niceness",
        f"workers run at niceness {value}: whatever else runs there comes first, and is in the "
        "times of the steps",
        "`export RAY_worker_niceness=0` before `ray start`",
        where=where,
    )


def clock(where: str, *, ahead_s: float, uncertain_s: float) -> Finding:
    """Args:
    ahead_s: of the driver's clock.
    uncertain_s: by how much that may be wrong.
    """
    figures = {"ahead_s": round(ahead_s, 4), "uncertain_s": round(uncertain_s, 4)}
    if abs(ahead_s) - uncertain_s <= CLOCK_WARNING_S:
        found = f"agrees with the driver's within {_rounded_up(abs(ahead_s) + uncertain_s):g} s"
        return ok("clock", found, where=where, figures=figures)
    return warning(
        "clock",
        f"its clock is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} the driver's",
        "let both follow a time server (`timedatectl set-ntp true`): times of attempts on "
        "different nodes cannot be put in order",
        where=where,
        figures=figures,
    )


def _rounded_up(seconds: float) -> float:
    """To a power of ten."""
    return float(10.0 ** math.ceil(math.log10(max(seconds, 1e-3))))


def unanswered(
    failed: Mapping[str, str], missing: Mapping[str, str], *, silence: Level
) -> Iterator[Finding]:
    """Args:
    failed: why the question raised an error, by node.
    missing: why no answer came.
    silence: what that is; a node that says nothing must not stop a study.
    """
    for where, reason in failed.items():
        yield failure(
            "answer",
            f"it could not be asked: {reason}",
            "install the same version of optbench there",
            where=where,
        )
    for where, reason in missing.items():
        advice = "trials may be placed there and fail: `ray status` says whether it still lives"
        found = f"it did not answer: {reason}"
        yield Finding(check="answer", level=silence, found=found, advice=advice, where=where)


def network(*, nodes: int, message_bytes: int, seconds: float, bus_bytes_per_s: float) -> Finding:
    """Of an all-reduce over one process on every node."""
    found = (
        f"an all-reduce of {amount(message_bytes)} over {nodes} nodes took "
        f"{1000 * seconds:.3g} ms: {bus_bytes_per_s / 1e9:.2g} GB/s"
    )
    figures = {
        "nodes": nodes,
        "message_bytes": message_bytes,
        "seconds": seconds,
        "bus_bytes_per_s": round(bus_bytes_per_s),
    }
    where = f"{nodes} nodes"
    if bus_bytes_per_s >= SLOW_BYTES_PER_S:
        return ok("network", found, where=where, figures=figures)
    return warning(
        "network",
        f"{found}, and trials over several nodes will mostly wait",
        "keep the workers of a trial on one node (fewer resources.workers), or look at the "
        "network: is GLOO_SOCKET_IFNAME the fast interface?",
        where=where,
        figures=figures,
    )


def no_network(where: str, nodes: int, reason: str) -> Finding:
    return failure(
        "network",
        f"an all-reduce over one process on each of {nodes} nodes failed: {reason}",
        "do the nodes reach one another's addresses, on every port?",
        where=where,
    )
