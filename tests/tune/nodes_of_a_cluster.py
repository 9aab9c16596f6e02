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
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from harness.errors import StudyStopped
from tune.canary import check_nodes
from tune.mixed_hardware import hardware_here
from tune.nodes import ask_nodes


@dataclass(frozen=True)
class Size:
    workers: int = 1
    cpus_per_worker: int = 1
    gpus_per_worker: float = 0
    placement: str = "pack"


def introduce(device: str) -> tuple[str | None, str]:
    return os.environ.get("ROLE_OF_THE_NODE"), hardware_here(device).name


def ask(cluster: Cluster) -> dict[str, object]:
    question = partial(introduce, "cpu")
    alone = ask_nodes(question, Size())
    alone_checked = check(SHA256)
    cluster.add_node(num_cpus=2, env_vars={"ROLE_OF_THE_NODE": "large"})
    answers = {
        "alone": alone,
        "alone checked": alone_checked,
        "both": ask_nodes(question, Size()),
        "large": ask_nodes(question, Size(cpus_per_worker=2)),
        "checked": check(SHA256),
        "other data": check("f" * 64),
    }
    cluster.add_node(num_cpus=1, env_vars={"GLOO_SOCKET_IFNAME": "nowhere0"})
    return {**answers, "cut off": check(SHA256)}


def check(sha256: str) -> object:
    """Addresses of the nodes that passed, or why training was refused."""
    try:
        nodes = check_nodes(Size(), device="cpu", dataset_path=DATA, data_sha256=sha256)
    except StudyStopped as stopped:
        return str(stopped)
    return sorted(nodes)


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
