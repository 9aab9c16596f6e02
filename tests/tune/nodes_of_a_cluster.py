"""Asks the nodes of a real cluster and prints their answers as JSON; for `test_nodes.py`.

In a process and a folder of its own: Ray notes in its folder which cluster runs on this machine,
and every other Ray that starts there meanwhile, or after a crash, would join it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from harness.errors import StudyStopped
from harness.study.placement import ResourcesConfig
from tune.checks.canary import check_nodes
from tune.checks.cluster_checks import cluster_findings
from tune.checks.mixed_hardware import hardware_here
from tune.cluster.nodes import ask_nodes, training_nodes


def introduce(device: str) -> tuple[str | None, str]:
    return os.environ.get("ROLE_OF_THE_NODE"), hardware_here(device).name


def ask(cluster: Cluster) -> dict[str, object]:
    alone = introductions(ResourcesConfig())
    alone_checked = check(SHA256)
    cluster.add_node(num_cpus=2, env_vars={"ROLE_OF_THE_NODE": "large"})
    answers = {
        "alone": alone,
        "alone checked": alone_checked,
        "both": introductions(ResourcesConfig()),
        "large": introductions(ResourcesConfig(cpus_per_worker=2)),
        "checked": check(SHA256),
        "other data": check("f" * 64),
    }
    said: list[str] = []
    doctor = [each.record() for each in cluster_findings(build=False, say=said.append)]
    cluster.add_node(num_cpus=1, env_vars={"GLOO_SOCKET_IFNAME": "nowhere0"})
    return {**answers, "doctor": doctor, "said": said, "cut off": check(SHA256)}


def introductions(gang: ResourcesConfig) -> dict[str, tuple[str | None, str]]:
    return ask_nodes(partial(introduce, "cpu"), training_nodes(gang)).given


def check(sha256: str) -> object:
    """Addresses of the nodes that passed, or why training was refused."""
    try:
        checked = check_nodes(
            ResourcesConfig(), device="cpu", dataset_path=DATA, data_sha256=sha256
        )
    except StudyStopped as stopped:
        return str(stopped)
    return sorted(checked.hardware)


DATA, SHA256 = Path(sys.argv[1]), sys.argv[2]
folder = tempfile.mkdtemp(prefix="nodes-")  # short: a socket's path has at most 107 characters
cluster = Cluster(
    initialize_head=True,
    head_node_args={"num_cpus": 1, "temp_dir": folder, "include_dashboard": False},
)
try:
    ray.init(address=cluster.address, _temp_dir=folder, log_to_driver=False, logging_level="error")
    print(json.dumps(ask(cluster)))
finally:
    ray.shutdown()
    cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
