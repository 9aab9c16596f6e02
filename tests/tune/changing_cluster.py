"""Runs studies on a real cluster that changes; prints what was seen as JSON, for `test_room.py`.

    python changing_cluster.py STUDY FOLDER                    the cluster and the first study
    python changing_cluster.py STUDY FOLDER ADDRESS TRIALS     a second study on it

In processes and folders of their own, see `nodes_of_a_cluster.py`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import ray
from idle_trials import Watch, end_in_time, train_idly
from ray.cluster_utils import Cluster

STUDY, FOLDER = Path(sys.argv[1]), Path(sys.argv[2])
MANY = 2000  # trials; each stage ends long before
SETTLED = 6  # trials of one look; the last whole one counts

seen: dict[str, object] = {}
second: subprocess.Popen[str]


def begin(watch: Watch) -> None:
    if watch.ended == 2:
        seen["one node"] = watch.peak
        cluster.add_node(num_cpus=4)
        watch.act = grown


def grown(watch: Watch) -> None:
    if watch.peak == 3:
        seen["two nodes"] = watch.peak
        arrive(watch)
        watch.act = shared


def arrive(watch: Watch) -> None:
    global second
    command = [sys.executable, __file__, str(STUDY), str(FOLDER / "second"), cluster.address, "8"]
    second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def shared(watch: Watch) -> None:
    """The older of two studies keeps two of three gangs."""
    if watch.said:
        settle(watch, "shared", until=lambda: len(watch.said) == 2, then=alone)


def alone(watch: Watch) -> None:
    if watch.peak == 3 and len(watch.said) == 2:
        seen["alone again"] = watch.peak
        seen["second"] = json.loads(second.communicate()[0])
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        watch.act = shrunk


def shrunk(watch: Watch) -> None:
    settle(watch, "one node left", until=lambda: watch.since > 5 * SETTLED, then=Watch.stop)


def settle(
    watch: Watch, stage: str, *, until: Callable[[], bool], then: Callable[[Watch], None]
) -> None:
    """Notes how many are under way at once in the end; what ran before the change goes on first."""
    if stage not in seen:
        seen[stage] = 0
        watch.fresh()
    elif until():
        watch.act = then
        then(watch)
    elif watch.since % SETTLED == 0:
        seen[stage], watch.peak = watch.peak, 0


if len(sys.argv) > 3:
    ray.init(address=sys.argv[3], log_to_driver=False, logging_level="error")
    watch = Watch()
    train_idly(STUDY, FOLDER, watch, trials=int(sys.argv[4]), workers=2)
    print(json.dumps({"at once": watch.peak, "ended": watch.ended, "said": watch.said}))
    sys.exit()

end_in_time()
folder = tempfile.mkdtemp(prefix="room-")  # short: a socket's path has at most 107 characters
cluster = Cluster(
    initialize_head=True,
    head_node_args={"num_cpus": 2, "temp_dir": folder, "include_dashboard": False},
)
try:
    ray.init(address=cluster.address, _temp_dir=folder, log_to_driver=False, logging_level="error")
    watch = Watch(begin)
    train_idly(STUDY, FOLDER / "first", watch, trials=MANY, workers=2)
    print(json.dumps({**seen, "said": watch.said}))
finally:
    ray.shutdown()
    cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
