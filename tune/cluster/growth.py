"""Up to what an autoscaler may grow a cluster: its own configuration, read on the head node.

Ray 2.60 has a place for this in its control store (`get_cluster_config`), and its open-source
autoscalers never write there. So the head node is asked: for the file that its monitor was started
with (`ray up`, `ray start --autoscaling-config`), or, on Kubernetes, for the RayCluster.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray._private import worker
from ray._private.state import state
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tune.cluster.capacity import Growth

ANSWER_TIMEOUT_S = 30.0
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
MONITORS = ("/autoscaler/_private/monitor.py", "/autoscaler/v2/monitor.py")
UNKNOWN = Growth(known=False)
UNLIMITED = 1_000_000


def growth_of_cluster(head: dict[str, Any] | None) -> Growth | None:
    """What the autoscaler of the joined cluster says; None: there is none.

    Args:
        head: the head node, as in `ray.nodes()`.
    """
    if (config := state.get_cluster_config()) is not None:
        return from_cluster_config(config)
    if head is None:
        return None
    session = worker._global_node.session_name
    if head["NodeID"] == ray.get_runtime_context().get_node_id():
        return growth_here(session)
    on_the_head = NodeAffinitySchedulingStrategy(head["NodeID"], soft=False)
    asked = (
        ray.remote(growth_here)
        .options(num_cpus=0, max_retries=0, scheduling_strategy=on_the_head)
        .remote(session)
    )
    try:
        found: Growth | None = ray.get(asked, timeout=ANSWER_TIMEOUT_S)
    except (ray.exceptions.RayError, ImportError):
        return None  # a head that cannot answer trains nothing either, and is told of later
    return found


def growth_here(session: str) -> Growth | None:
    """On the head node itself. Its monitor is known by the name of Ray's session."""
    monitors = [line for line in _command_lines() if _is_monitor(line, session)]
    for argument in (argument for line in monitors for argument in line):
        if argument.startswith("--autoscaling-config="):
            return _from_file(Path(argument.partition("=")[2]).expanduser())
    if monitors or "RAY_CLUSTER_NAME" not in os.environ or not SERVICE_ACCOUNT.exists():
        return None
    # In KubeRay's container with an autoscaler there is no monitor: it has a container of its own.
    return _from_kubernetes(os.environ["RAY_CLUSTER_NAME"], SERVICE_ACCOUNT.read_text().strip())


def _command_lines() -> list[list[str]]:
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(path.read_bytes().decode(errors="replace").split("\0"))
    return lines


def _is_monitor(line: list[str], session: str) -> bool:
    ours = any(f"/{session}/" in part for part in line)
    return ours and any(part.endswith(MONITORS) for part in line)


def _from_file(path: Path) -> Growth:
    import yaml  # type: ignore[import-untyped]  # a dependency of Ray's

    try:
        return from_autoscaler(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return UNKNOWN


def _from_kubernetes(cluster: str, namespace: str) -> Growth | None:
    """With the rights of the head's service account, which KubeRay gives to the autoscaler."""
    from ray.autoscaler._private.kuberay.autoscaling_config import (
        _derive_autoscaling_config_from_ray_cr,
    )
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    try:
        resource = KubernetesHttpApiClient(namespace).get(f"rayclusters/{cluster}")
        if not resource["spec"].get("enableInTreeAutoscaling"):
            return None
        return from_autoscaler(_derive_autoscaling_config_from_ray_cr(resource))
    except Exception:  # whatever keeps Kubernetes from answering: somebody scales this cluster
        return UNKNOWN


def from_autoscaler(config: dict[str, Any]) -> Growth:
    """From a configuration of the autoscaler, of any provider."""
    kinds = {
        name: kind
        for name, kind in config["available_node_types"].items()
        if name != config["head_node_type"]
    }
    # A kind without resources is one whose provider looks them up when it makes the node.
    if any(not kind.get("resources") for kind in kinds.values()):
        return UNKNOWN
    most_nodes = int(config.get("max_workers", 2))  # Ray's own default
    groups = tuple(
        (
            float(kind["resources"].get("CPU", 0)),
            float(kind["resources"].get("GPU", 0)),
            int(kind.get("max_workers", most_nodes)),
        )
        for kind in kinds.values()
    )
    return Growth(groups=groups, most_nodes=most_nodes)


def from_cluster_config(config: Any) -> Growth:
    """From what an autoscaler has reported to Ray (`ClusterConfig`); -1 is without limit."""
    groups = []
    for group in config.node_group_configs:
        has = dict(group.resources)
        count = UNLIMITED if group.max_count < 0 else group.max_count
        groups.append((float(has.get("CPU", 0)), float(has.get("GPU", 0)), count))
    return Growth(groups=tuple(groups), most_nodes=UNLIMITED)
