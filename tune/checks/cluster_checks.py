"""What `optbench doctor --address` finds on every node of a cluster, and between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from harness.study.placement import ResourcesConfig
from tune.checks.findings import Finding, ok
from tune.checks.meeting import Scouts, network_finding
from tune.checks.node_checks import clock, comforts, problems, unanswered
from tune.checks.node_report import NodeReport, report_here
from tune.checks.operator_check import BUILD_S, LOAD_S, operator_here
from tune.cluster.nodes import all_nodes, ask_nodes, ray_files_here
from tune.gangs.niceness import as_the_node

PATIENCE_S = 120.0
"""Somebody waits for the answer of a node that is busy; a run leaves it out after a minute."""


def cluster_findings(*, build: bool, say: Callable[[str], None]) -> Iterator[Finding]:
    """Of the Ray that this process is connected to.

    Args:
        build: see `operator_here`.
        say: told what begins, for somebody who waits.
    """
    nodes = all_nodes()
    ids = {name: str(node["NodeID"]) for name, node in nodes.items()}
    driver = report_here("cpu")
    say(f"asking {len(nodes)} node(s)")
    reports = ask_nodes(_introduce, ids, at_most_s=PATIENCE_S)
    for name, report in reports.given.items():
        yield from problems(name, report, driver)
        yield from comforts(name, report, gpus_of_ray=nodes[name]["Resources"].get("GPU", 0.0))
    yield from unanswered(reports.failed, reports.missing, silence="failure")
    answering = {name: ids[name] for name in reports.given}
    say("compiling DeepSpeed's operator there" if build else "opening DeepSpeed there")
    at_most_s = PATIENCE_S + (BUILD_S if build else LOAD_S)
    operators = ask_nodes(partial(operator_here, build=build), answering, at_most_s=at_most_s)
    for name, operator in operators.given.items():
        yield replace(operator, where=name)
    yield from unanswered(operators.failed, operators.missing, silence="failure")
    yield from _between(answering, nodes, say)


def _introduce() -> NodeReport:
    as_the_node()
    return report_here("cpu", ray_files=ray_files_here())


def _between(
    ids: Mapping[str, str], nodes: Mapping[str, dict[str, Any]], say: Callable[[str], None]
) -> Iterator[Finding]:
    if not ids:
        return
    say("comparing clocks")
    with Scouts(ids) as scouts:
        for name, reading in scouts.clocks().items():
            yield clock(name, ahead_s=reading.ahead_s, uncertain_s=reading.uncertain_s)
        # A node without cores drives, and trains nothing: no gang reaches there.
        training = [name for name in ids if nodes[name]["Resources"].get("CPU", 0.0) >= 1]
        if len(training) < 2:
            yield ok("network", "one node trains: its workers meet on its loopback")
            return
        say(f"an all-reduce over {len(training)} nodes")
        yield network_finding(scouts, training, ResourcesConfig().ports)
