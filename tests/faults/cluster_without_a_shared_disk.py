"""A real cluster of two nodes of one core, the second of which does not see a folder of the first.

    python cluster_without_a_shared_disk.py FOLDER CACHE

The second node lives in a mount namespace of its own, with an empty disk over FOLDER and CACHE as
its `OPTBENCH_CACHE`. Prints the cluster's address and the pid of the second node's first process,
and ends with its standard input.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

HIDE_AND_JOIN = 'mount -t tmpfs none "$1" && exec "$2" start --address="$3" --num-cpus=1 --block'


def join(address: str, folder: str, cache: str) -> subprocess.Popen[bytes]:
    command = str(Path(sys.executable).with_name("ray"))
    return subprocess.Popen(
        ["unshare", "-m", "sh", "-c", HIDE_AND_JOIN, "sh", folder, command, address],
        env={**os.environ, "OPTBENCH_CACHE": cache},
        stdout=2,
        start_new_session=True,
    )


answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # Ray prints lines of its own
temporary = tempfile.mkdtemp(prefix="apart-")  # short: a socket's path has at most 107 characters
cluster = Cluster(
    initialize_head=True,
    head_node_args={"num_cpus": 1, "temp_dir": temporary, "include_dashboard": False},
)
second = None
try:
    ray.init(
        address=cluster.address, _temp_dir=temporary, log_to_driver=False, logging_level="error"
    )
    second = join(cluster.address, *sys.argv[1:])
    until = time.monotonic() + 60
    while ray.cluster_resources().get("CPU") != 2 and time.monotonic() < until:
        time.sleep(0.1)
    print(cluster.address, second.pid, file=answers, flush=True)
    sys.stdin.read()
finally:
    if second is not None:
        os.killpg(second.pid, signal.SIGTERM)
        try:
            second.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(second.pid, signal.SIGKILL)
    ray.shutdown()
    cluster.shutdown()
    shutil.rmtree(temporary, ignore_errors=True)
