"""The files of the cluster agree with each other, the project and a real MLflow server."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPOSE = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
MANIFESTS = list(yaml.safe_load_all((ROOT / "docker/kuberay.yaml").read_text()))
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
RAY_SERVICES = ("head", "worker", "study")


def _manifest(kind: str) -> Any:
    (found,) = (m for m in MANIFESTS if m["kind"] == kind)
    return found


def _cluster() -> Any:
    return _manifest("RayJob")["spec"]["rayClusterSpec"]


def _pods() -> list[Any]:
    groups = [_cluster()["headGroupSpec"], *_cluster()["workerGroupSpecs"]]
    return [_manifest("Deployment")["spec"]["template"]["spec"]] + [
        group["template"]["spec"] for group in groups
    ]


def _containers() -> list[Any]:
    return [container for pod in _pods() for container in pod["containers"]]


def _allowed_hosts(command: list[str]) -> list[str]:
    (option,) = (word for word in command if word.startswith("--allowed-hosts="))
    return option.removeprefix("--allowed-hosts=").split(",")


def _mounts(service: str) -> dict[str, str]:
    return dict(volume.split(":", 1) for volume in COMPOSE["services"][service]["volumes"])


def test_every_container_runs_the_image_of_this_version() -> None:
    image = f"optbench:{PROJECT['project']['version']}"
    images = {service["image"] for service in COMPOSE["services"].values()}
    assert images | {container["image"] for container in _containers()} == {image}
    assert f"-t {image} ." in DOCKERFILE


def test_the_manifest_names_the_ray_of_the_constraints() -> None:
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert _cluster()["rayVersion"] == pinned[1]


def test_the_build_context_holds_every_package() -> None:
    packages = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    let_in = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{package.rstrip('*')}" for package in packages} < set(let_in)


def test_every_node_of_the_compose_cluster_shares_data_results_and_token() -> None:
    cache = re.search(r"OPTBENCH_CACHE=(\S+)", DOCKERFILE)
    runs = re.search(r"OPTBENCH_RUNS=(\S+)", DOCKERFILE)
    assert cache is not None
    assert runs is not None
    for service in RAY_SERVICES:
        mounts = _mounts(service)
        assert (mounts["cache"], mounts["runs"]) == (cache[1], runs[1])
        writable = "" if service == "head" else ":ro"
        assert mounts["token"] == f"/home/optbench/.ray{writable}"


def test_every_node_of_the_manifest_shares_one_claim_at_one_path() -> None:
    ray_pods = _pods()[1:]
    mounts = [pod["containers"][0]["volumeMounts"] for pod in ray_pods]
    assert all(mount == mounts[0] for mount in mounts)
    assert all(pod["volumes"] == ray_pods[0]["volumes"] for pod in ray_pods)
    environment = {entry["name"]: entry["value"] for entry in ray_pods[0]["containers"][0]["env"]}
    for name in ("OPTBENCH_CACHE", "OPTBENCH_RUNS"):
        assert environment[name].startswith(mounts[0][0]["mountPath"] + "/")


def test_clusters_ask_for_a_token() -> None:
    assert "RAY_AUTH_MODE=token" in DOCKERFILE
    assert _cluster()["authOptions"] == {"mode": "token"}


def test_ports_are_published_on_loopback_only() -> None:
    ports = [p for service in COMPOSE["services"].values() for p in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_nothing_runs_as_root() -> None:
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["1000:1000"]
    assert all(pod["securityContext"]["runAsNonRoot"] for pod in _pods())
    assert all(
        container["securityContext"]["capabilities"]["drop"] == ["ALL"]
        for container in _containers()
    )
    assert all(service["cap_drop"] == ["ALL"] for service in COMPOSE["services"].values())


def test_pods_are_kept_from_the_variables_of_the_mlflow_service() -> None:
    # Kubernetes would set MLFLOW_PORT=tcp://..., which `mlflow server` reads as its port.
    assert all(pod["enableServiceLinks"] is False for pod in _pods())


def test_mlflow_knows_the_name_under_which_the_driver_calls_it() -> None:
    uri = COMPOSE["services"]["study"]["environment"]["MLFLOW_TRACKING_URI"]
    assert urlsplit(uri).hostname in COMPOSE["services"]
    assert urlsplit(uri).netloc in _allowed_hosts(COMPOSE["services"]["mlflow"]["command"])

    (server, head, _worker) = _containers()
    (uri,) = (entry["value"] for entry in head["env"] if entry["name"] == "MLFLOW_TRACKING_URI")
    assert urlsplit(uri).hostname == _manifest("Service")["metadata"]["name"]
    assert urlsplit(uri).netloc in _allowed_hosts(server["args"])


@pytest.fixture(scope="module")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server of the compose file, on a free port and in a temporary folder."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [
        word.replace("0.0.0.0", "127.0.0.1")
        .replace("--port=5000", f"--port={port}")
        .replace("/mlflow/", f"{folder}/")
        for word in COMPOSE["services"]["mlflow"]["command"]
    ]
    environment = os.environ | dict(re.findall(r"\b(MLFLOW_\w+)=(\w+)", DOCKERFILE))
    command = [sys.executable, "-m", *words]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log) as server,
    ):
        url = f"http://127.0.0.1:{port}"
        try:
            while _status(url + "/health", "any") != 200:
                assert server.poll() is None, (folder / "log").read_text()
                time.sleep(0.2)
            yield url
        finally:
            server.terminate()


def _status(url: str, host: str) -> int:
    """The HTTP status of a call with that Host header; 0 when nobody listens."""
    request = urllib.request.Request(url, headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except urllib.error.URLError:
        return 0


def test_the_health_check_of_mlflow_fails_for_a_host_that_it_does_not_know(mlflow_url: str) -> None:
    checked = urlsplit(COMPOSE["services"]["mlflow"]["healthcheck"]["test"][-1])
    probe = _containers()[0]["readinessProbe"]["httpGet"]
    assert probe["path"] == f"{checked.path}?{checked.query}"
    assert probe["httpHeaders"] == [{"name": "Host", "value": checked.netloc}]

    assert _status(mlflow_url + probe["path"], checked.netloc) == 200
    assert _status(mlflow_url + probe["path"], "localhost:5000") == 200
    assert _status(mlflow_url + probe["path"], "elsewhere:5000") == 403
    assert _status(mlflow_url + "/health", "elsewhere:5000") == 200
