"""A local Ray with the processes that a study needs, and no others.

`ray.init` on a machine starts ten processes before the first worker; on two cores they are the
larger half of the time to the first training step. Left out here:

- the autoscaler's monitor and the log monitor: `ray start` has switches for them, `ray.init` none;
- the API server: with `include_dashboard=False` it serves usage statistics, which are off;
- the dashboard's agent: nobody reads its metrics. The raylet wants a child in its place, and ports
  in files; Ray's own minimal installation writes -1 there, "not in use", and so do we;
- idle workers, one a core: trials would not use them, a gang starts its own.

The agent of runtime environments stays, for trials that have one (Tune passes AWS keys on), but
the raylet is told its port beforehand instead of waiting for it, and it gives way to the trials.

All this is inside Ray, so it holds for the version that it was read in; with any other one Ray
starts as it likes. A cluster that somebody else started is never touched.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

READ_IN = "2.60.0"

# Lives as long as the raylet holds the other end of its standard input, and does nothing. What
# Ray appends to the command becomes arguments of `sh`.
PLACEHOLDER = 'sh -c "exec cat"'

SYSTEM_CONFIG = {
    "enable_pipe_based_agent_to_parent_health_check": True,  # the other end for PLACEHOLDER
    "enable_metrics_collection": False,
    "enable_worker_prestart": False,
    "prestart_worker_first_driver": False,
}


@contextmanager
def lean() -> Iterator[None]:
    """While this is open, `ray.init` starts a local Ray with few processes."""
    if ray.__version__ != READ_IN:
        yield
        return
    from ray._private import node

    original = node.Node
    node.Node = _lean_node(original)
    try:
        yield
    finally:
        node.Node = original


def _lean_node(ordinary: type[Any]) -> type[Any]:
    from ray import _raylet

    raylet: Any = _raylet

    class LeanNode(ordinary):  # type: ignore[misc]
        """Joins a running Ray as ever (`head=False`), and starts a lean one."""

        def __init__(self, ray_params: Any, head: bool = False, **options: Any) -> None:
            if head:
                ray_params.no_monitor = True
                ray_params.include_log_monitor = False
                ray_params.runtime_env_agent_port = _free_port()
                ray_params._system_config = {**SYSTEM_CONFIG, **(ray_params._system_config or {})}
            super().__init__(ray_params, head=head, **options)

        def start_api_server(self, **_: Any) -> None:
            self._webui_url = ""

        def start_raylet(self, *arguments: Any, **options: Any) -> None:
            ports = {
                raylet.METRICS_AGENT_PORT_NAME: -1,
                raylet.METRICS_EXPORT_PORT_NAME: -1,
                raylet.DASHBOARD_AGENT_LISTEN_PORT_NAME: -1,
                raylet.RUNTIME_ENV_AGENT_PORT_NAME: self._ray_params.runtime_env_agent_port,
            }
            for name, port in ports.items():
                raylet.persist_port(self._session_dir, self._node_id, name, port)
            with _other_agents():
                super().start_raylet(*arguments, **options)

    return LeanNode


@contextmanager
def _other_agents() -> Iterator[None]:
    """Replaces the commands of the agents in the raylet's command line."""
    from ray._private import services

    original = services.start_ray_process

    def start(command: list[str], *arguments: Any, **options: Any) -> Any:
        return original([_lean_argument(each) for each in command], *arguments, **options)

    services.start_ray_process = start
    try:
        yield
    finally:
        services.start_ray_process = original


def _lean_argument(argument: str) -> str:
    name, equals, value = argument.partition("=")
    if name == "--dashboard_agent_command":
        return name + equals + PLACEHOLDER
    if name == "--runtime_env_agent_command":
        return f"{name}{equals}nice -n 19 {value}"
    return argument


def _free_port() -> int:
    """Below the ports that the system gives away by itself: nobody takes it in the meantime."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
