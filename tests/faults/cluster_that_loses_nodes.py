"""A real cluster of several raylets that does as it is told; for `test_nodes_that_are_lost.py`.

    python cluster_that_loses_nodes.py CPUS [CPUS ..]    # a head without cores, and these nodes

Prints its address, then answers each line of standard input with one line of JSON: `lose NODE_ID`
kills a raylet by SIGKILL, `add CPUS` starts one, `resources` gives total and available ones.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile

import ray
from ray.cluster_utils import Cluster


def obey(cluster: Cluster, command: str, argument: str) -> object:
    if command == "lose":
        (node,) = (node for node in cluster.worker_nodes if node.node_id == argument)
        cluster.remove_node(node, allow_graceful=False)
    if command == "add":
        cluster.add_node(num_cpus=int(argument))
    return {"total": ray.cluster_resources(), "available": ray.available_resources()}


answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # Ray prints lines of its own
folder = tempfile.mkdtemp(prefix="fire-")  # short: a socket's path has at most 107 characters
cluster = Cluster(
    initialize_head=True,
    head_node_args={"num_cpus": 0, "temp_dir": folder, "include_dashboard": False},
)
try:
    ray.init(address=cluster.address, _temp_dir=folder, log_to_driver=False, logging_level="error")
    for cpus in sys.argv[1:]:
        cluster.add_node(num_cpus=int(cpus))
    print(cluster.address, file=answers, flush=True)
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        print(json.dumps(obey(cluster, command, argument)), file=answers, flush=True)
finally:
    ray.shutdown()
    cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
