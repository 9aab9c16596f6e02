"""Before the first trial on several nodes: does each have the code, the data, the device, a way?

On one machine nothing of this can differ from what the driver itself has just used.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.errors import StudyStopped, UserError
from harness.study.code_version import code_sha256, code_version
from tune.capacity import GangSize
from tune.mixed_hardware import NodeHardware, hardware_here
from tune.niceness import as_the_node
from tune.nodes import ask_nodes, training_nodes

MEETING_S = 60.0
"""Nodes that cannot reach one another in this time would not do so in a trial."""

MOST_FAULTS = 6


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a node trains with, and what is wrong there; None: nothing."""

    hardware: NodeHardware
    problem: str | None


def look_around(device: str, dataset_path: Path, data_sha256: str) -> Findings:
    """On the node itself. Reads every token once: a file may be there and be another one."""
    return Findings(
        hardware=replace(hardware_here(device), niceness=as_the_node()),
        problem=_no_device(device) or _no_data(dataset_path, data_sha256),
    )


def _no_device(device: str) -> str | None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        return "torch sees no CUDA device"
    return None


def _no_data(path: Path, sha256: str) -> str | None:
    from harness.data import open_dataset

    try:
        dataset = open_dataset(path)
        dataset.verify()
    except UserError as error:
        return str(error)
    if dataset.manifest.sha256 != sha256:
        return f"{path} holds other tokens than on the driver's machine"
    return None


def check_nodes(
    gang: GangSize, *, device: str, dataset_path: Path, data_sha256: str
) -> Mapping[str, NodeHardware]:
    """The hardware of every node that can train; empty where this machine is the only one.

    Raises:
        StudyStopped: naming the nodes whose trials could only fail, or would not be comparable.
    """
    findings = ask_nodes(partial(look_around, device, dataset_path, data_sha256), gang)
    faults = [f"{name}: {found.problem}" for name, found in findings.items() if found.problem]
    hardware = {name: found.hardware for name, found in findings.items()}
    faults += _other_code(hardware)
    if not faults and len(findings) > 1:
        faults += _unreachable(training_nodes(gang))
    if faults:
        more = f"; and {len(faults) - MOST_FAULTS} more" if len(faults) > MOST_FAULTS else ""
        raise StudyStopped(
            "trials would fail on some nodes of this cluster, for a reason that is not theirs: "
            + "; ".join(faults[:MOST_FAULTS])
            + more
            + ". Nothing was trained. Mend it, or take these nodes out of the cluster, and run "
            "the same command again"
        )
    return hardware


def _other_code(nodes: Mapping[str, NodeHardware]) -> Iterator[str]:
    here = code_sha256()
    for name, node in nodes.items():
        if node.code != here:
            yield (
                f"{name}: it has other code ({node.version}, sources {node.code[:8]}) than the "
                f"driver ({code_version()}, sources {here[:8]}): install the same version"
            )


class Scout:
    """One process on one node that meets those on the others."""

    def opens(self) -> str:
        """An address where the others can meet it."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = probe.getsockname()[1]
        return f"tcp://{ray.util.get_node_ip_address()}:{port}"

    def meets(self, where: str, rank: int, size: int) -> float:
        """The sum of a one from everybody."""
        import torch
        import torch.distributed as dist

        dist.init_process_group(
            "gloo",
            init_method=where,
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=MEETING_S / 2),
        )
        try:
            one = torch.ones(1)
            dist.all_reduce(one)
            return float(one)
        finally:
            dist.destroy_process_group()


def _unreachable(nodes: Mapping[str, str]) -> Iterator[str]:
    """An all-reduce over one process on every node, over the same interfaces as a trial's."""
    scouts = {
        name: ray.remote(Scout)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
        .remote()
        for name, node in nodes.items()
    }
    name = next(iter(scouts))
    try:
        where = ray.get(next(iter(scouts.values())).opens.remote(), timeout=MEETING_S)
        meetings = {
            name: scout.meets.remote(where, rank, len(scouts))
            for rank, (name, scout) in enumerate(scouts.items())
        }
        until, pending = time.monotonic() + MEETING_S, {v: k for k, v in meetings.items()}
        while pending and (left := until - time.monotonic()) > 0:
            ready, _ = ray.wait(list(pending), num_returns=1, timeout=left)
            for reference in ready:
                name = pending.pop(reference)
                ray.get(reference)  # the first one that fails is not waited for by the others
        if pending:
            name = next(iter(pending.values()))
            raise ray.exceptions.GetTimeoutError
    except Exception as error:
        yield (
            f"{name}: an all-reduce over one process on each of {len(scouts)} nodes failed: "
            f"{_reason(error)}: do the nodes reach one another's addresses, on every port?"
        )
    finally:
        for scout in scouts.values():
            ray.kill(scout)


def _reason(error: Exception) -> str:
    if isinstance(error, ray.exceptions.GetTimeoutError):
        return f"no answer within {MEETING_S:.0f} s"
    cause = getattr(error, "cause", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]
