"""Before the first trial on several nodes: does each have the code, the data, the device, a way?

On one machine nothing of this can differ from what the driver itself has just used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.errors import StudyStopped
from harness.study.placement import ResourcesConfig
from tune.checks.findings import Finding, failure, folded
from tune.checks.meeting import Scouts, network_finding
from tune.checks.mixed_hardware import NodeHardware
from tune.checks.node_checks import niceness, problems, unanswered
from tune.checks.node_report import CACHE, NodeReport, report_here
from tune.cluster.nodes import A_LITTLE_GPU, ask_nodes, ray_files_here, training_nodes
from tune.delivery.receiving import undelivered
from tune.gangs.niceness import as_the_node

MOST_FAULTS = 6


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Of the nodes that passed: what each trains with, and what a person should know once."""

    hardware: Mapping[str, NodeHardware]
    warnings: tuple[str, ...]


def look_around(device: str) -> tuple[NodeReport, str | None]:
    """On the node itself: what it says, and why no trial could run there; None: nothing."""
    as_the_node()
    return report_here(device, ray_files=ray_files_here()), _no_device(device)


def _no_device(device: str) -> str | None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        return "torch sees no CUDA device"
    return None


def check_nodes(
    gang: ResourcesConfig, *, device: str, dataset_path: Path, data_sha256: str
) -> Checked:
    """Asks every node that can train; empty where this machine is the only one.

    The data is on all of them afterwards.

    Raises:
        StudyStopped: naming the nodes whose trials could only fail, or would not be comparable.
    """
    nodes = training_nodes(gang)
    if not nodes:
        return Checked(hardware={}, warnings=())
    without_data = undelivered(gang, dataset_path=dataset_path, data_sha256=data_sha256)
    findings = [failure(CACHE, problem, where=name) for name, problem in without_data.items()]
    little_gpu = A_LITTLE_GPU if gang.gpus_per_worker else 0.0
    answers = ask_nodes(partial(look_around, device), nodes, gpus=little_gpu)
    driver = report_here("cpu")
    for name, (report, problem) in answers.given.items():
        if problem:
            findings.append(failure("devices", problem, where=name))
        findings.append(niceness(name, report.niceness))
        # The cache has just been tried with the data itself.
        findings += [each for each in problems(name, report, driver) if each.check != CACHE]
    findings += unanswered(answers.failed, answers.missing, silence="warning")
    if len(answers.given) > 1 and not _of_level("failure", findings):
        with Scouts(nodes) as scouts:
            findings.append(network_finding(scouts, list(nodes), gang.ports))
    if faults := _of_level("failure", findings):
        more = f"; and {len(faults) - MOST_FAULTS} more" if len(faults) > MOST_FAULTS else ""
        raise StudyStopped(
            "trials would fail on some nodes of this cluster, for a reason that is not theirs: "
            + "; ".join(faults[:MOST_FAULTS])
            + more
            + ". Nothing was trained. Mend it, or take these nodes out of the cluster, and run "
            "the same command again"
        )
    return Checked(
        hardware={name: report.hardware for name, (report, _) in answers.given.items()},
        warnings=tuple(_of_level("warning", findings)),
    )


def _of_level(level: str, findings: list[Finding]) -> list[str]:
    return [each.sentence for each in folded(f for f in findings if f.level == level)]
