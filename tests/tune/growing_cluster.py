"""A real autoscaler and a head without cores; prints what was seen, for `test_growth.py`.

    python growing_cluster.py STUDY FOLDER v2

Ray's own `AutoscalingCluster` stops every Ray on the machine first, and its wheel lacks the file
that it starts from. The nodes come from the same provider: raylets of this machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import ray
from idle_trials import Watch, end_in_time, train_idly
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

from harness.errors import UserError
from harness.study.placement import ResourcesConfig
from tune.cluster.capacity import check_fits
from tune.cluster.connection import capacity
from tune.cluster.local_ray import _free_port

STUDY, FOLDER, VERSION = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
folder = tempfile.mkdtemp(prefix="grow-")  # short: a socket's path has at most 107 characters
port = _free_port()
SMALL = {"CPU": 2, "object_store_memory": 80_000_000}
COMMANDS = ("initialization", "setup", "head_setup", "worker_setup")
CONFIG = {
    "cluster_name": "growing",
    "max_workers": 2,
    "upscaling_speed": 1000.0,
    "idle_timeout_minutes": 5,
    "provider": {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "gcs_address": f"127.0.0.1:{port}",
        "head_node_id": FAKE_HEAD_NODE_ID,
        "launch_multiple": True,
        # As on Kubernetes: a node needs no ssh to start Ray.
        "disable_node_updaters": True,
        "worker_liveness_check": False,
    },
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "small": {"resources": SMALL, "node_config": {}, "min_workers": 0, "max_workers": 3},
    },
    **{f"{name}_commands": [] for name in COMMANDS},
    **{f"{name}_start_ray_commands": [] for name in ("head", "worker")},
    "auth": {},
    "file_mounts": {},
    "cluster_synced_files": [],
    "file_mounts_sync_continuously": False,
}


def start_head() -> subprocess.Popen[bytes]:
    file = Path(folder) / "autoscaling.json"
    file.write_text(json.dumps(CONFIG))
    command = f"{Path(sys.executable).parent}/ray start --head --block --port={port} --num-cpus=0"
    options = f"--temp-dir={folder} --include-dashboard=false --object-store-memory=80000000"
    return subprocess.Popen(
        [*command.split(), *options.split(), f"--autoscaling-config={file}"],
        env={
            **os.environ,
            "RAY_FAKE_CLUSTER": "1",
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
            "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
            "RAY_enable_autoscaler_v2": str(int(VERSION == "v2")),
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def join() -> None:
    for _ in range(20):
        with suppress(ConnectionError):
            ray.init(f"127.0.0.1:{port}", log_to_driver=False, logging_level="error")
            return
    raise SystemExit("the head did not start")


def refusal(**resources: int) -> str | None:
    try:
        check_fits(ResourcesConfig(**resources), capacity())  # type: ignore[arg-type]
    except UserError as error:
        return str(error)
    return None


end_in_time()
head = start_head()
try:
    join()
    watch = Watch(lambda watch: watch.stop() if watch.peak == 2 else None)
    answers = {
        "growth": str(capacity().growth),
        "too wide": refusal(cpus_per_worker=3),
        "too many": refusal(workers=5),
        "can come": refusal(workers=2),
    }
    train_idly(STUDY, FOLDER, watch, trials=500, workers=2)
    print(json.dumps({**answers, "at once": watch.peak, "said": watch.said}))
finally:
    ray.shutdown()
    processes = psutil.Process(head.pid).children(recursive=True)
    head.terminate()
    with suppress(subprocess.TimeoutExpired):
        head.wait(20)
    head.kill()
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    shutil.rmtree(folder, ignore_errors=True)
