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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from harness.runs.folder import StudyFolder
from harness.tracking.tracker import Tracker, TrackingUnavailable

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPOSE_TEXT = (ROOT / "docker/compose.yaml").read_text()
SERVICES = yaml.safe_load(COMPOSE_TEXT)["services"]
KUBERNETES_TEXT = (ROOT / "docker/kubernetes.yaml").read_text()
MANIFESTS = list(yaml.safe_load_all(KUBERNETES_TEXT))
JOB = yaml.safe_load((ROOT / "docker/kuberay.yaml").read_text())
CLUSTER = JOB["spec"]["rayClusterSpec"]
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
SERVED = ("basic_auth.ini", "mlflow_ready.py")
"""Files of docker/ that the image holds."""


def _manifests(kind: str) -> dict[str, Any]:
    return {m["metadata"]["name"]: m for m in MANIFESTS if m["kind"] == kind}


def _ray_pods() -> list[Any]:
    groups = [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def _pods() -> list[Any]:
    kept = [m for m in MANIFESTS if m["kind"] in ("Deployment", "StatefulSet")]
    return [m["spec"]["template"]["spec"] for m in kept] + _ray_pods()


def _container(pod: Any) -> Any:
    (container,) = pod["containers"]
    return container


def _mlflow_container() -> Any:
    return _container(_manifests("Deployment")["mlflow"]["spec"]["template"]["spec"])


def _environment(container: Any) -> dict[str, Any]:
    return {entry["name"]: entry for entry in container.get("env", ())}


def _of_dockerfile(name: str) -> str:
    found = re.search(rf"\b{name}=(\S+)", DOCKERFILE)
    assert found is not None, name
    return found[1]


def _allowed_hosts(command: list[str]) -> list[str]:
    (option,) = (word for word in command if word.startswith("--allowed-hosts="))
    return option.removeprefix("--allowed-hosts=").split(",")


def test_every_container_runs_the_image_of_this_version() -> None:
    ours = f"optbench:{PROJECT['project']['version']}"
    images = {service["image"] for service in SERVICES.values()}
    images |= {_container(pod)["image"] for pod in _pods()}
    assert {image for image in images if "postgres" not in image} == {ours, f"{ours}-gpu"}
    assert len({image for image in images if "postgres" in image}) == 1
    assert f"-t {ours} ." in DOCKERFILE
    assert f"-t {ours}-gpu --build-arg TORCH=cu" in DOCKERFILE


def test_the_manifest_names_the_ray_of_the_constraints() -> None:
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert CLUSTER["rayVersion"] == pinned[1]


def test_the_build_context_holds_every_package_and_what_the_containers_call() -> None:
    packages = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    needed = [package.rstrip("*") for package in packages] + [f"docker/{name}" for name in SERVED]
    assert {f"!{name}" for name in needed} < set((ROOT / ".dockerignore").read_text().splitlines())
    called = re.findall(r"/optbench/docker/([\w.]+)", COMPOSE_TEXT + KUBERNETES_TEXT)
    assert set(called) == set(SERVED)


def test_only_the_driver_holds_data_and_results() -> None:
    mounts = dict(volume.split(":", 1) for volume in SERVICES["study"]["volumes"])
    assert mounts["cache"] == _of_dockerfile("OPTBENCH_CACHE")
    assert mounts["runs"] == _of_dockerfile("OPTBENCH_RUNS")
    assert "volumes" not in SERVICES["head"] | SERVICES["worker"]

    head, *workers = _ray_pods()
    assert not any(worker.get("volumes") for worker in workers)
    (mount,) = _container(head)["volumeMounts"]
    (volume,) = head["volumes"]
    assert volume["name"] == mount["name"]
    assert volume["persistentVolumeClaim"]["claimName"] in _manifests("PersistentVolumeClaim")
    for name in ("OPTBENCH_CACHE", "OPTBENCH_RUNS"):
        assert _environment(_container(head))[name]["value"].startswith(mount["mountPath"] + "/")


def test_no_claim_needs_a_shared_disk() -> None:
    claims = list(_manifests("PersistentVolumeClaim").values())
    for stateful in _manifests("StatefulSet").values():
        claims += stateful["spec"]["volumeClaimTemplates"]
    assert len(claims) == 3
    assert all(claim["spec"]["accessModes"] == ["ReadWriteOnce"] for claim in claims)


def test_clusters_ask_for_a_token() -> None:
    assert _of_dockerfile("RAY_AUTH_MODE") == "token"
    assert CLUSTER["authOptions"] == {"mode": "token"}
    tokens = [SERVICES[name]["environment"]["RAY_AUTH_TOKEN"] for name in ("head", "worker")]
    assert {*tokens, SERVICES["study"]["environment"]["RAY_AUTH_TOKEN"]} == {
        "${RAY_AUTH_TOKEN:?set it in docker/.env}"
    }


def test_workers_are_not_behind_the_rest_of_their_host() -> None:
    assert _of_dockerfile("RAY_worker_niceness") == "0"
    assert "RAY_worker_niceness=0" in (ROOT / "docker/slurm.sh").read_text()


def test_no_secret_is_in_a_file_and_every_one_is_asked_for() -> None:
    wanted = set(re.findall(r"\$\{(\w+):\?", COMPOSE_TEXT))
    example = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / "docker/.env.example").read_text(), re.M))
    assert example == dict.fromkeys(wanted, "")
    secret = re.compile("PASSWORD|TOKEN|SECRET|ACCESS_KEY")
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert not secret.search(name) or re.fullmatch(r"\$\{[A-Z_]+:[?-].*\}", value), name
    made = set(re.findall(r"--from-literal=([\w-]+)=", KUBERNETES_TEXT))
    used = set()
    for pod in _pods():
        for name, entry in _environment(_container(pod)).items():
            if secret.search(name):
                reference = entry["valueFrom"]["secretKeyRef"]
                assert reference["name"] == "optbench"
                used.add(reference["key"])
    assert used == made


def test_a_lost_cluster_is_made_anew_and_workers_come_when_they_are_needed() -> None:
    assert JOB["spec"]["backoffLimit"] > 0
    assert CLUSTER["enableInTreeAutoscaling"] is True
    cpu, gpu = CLUSTER["workerGroupSpecs"]
    assert [group["minReplicas"] for group in (cpu, gpu)] == [0, 0]
    resources = _container(gpu["template"]["spec"])["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == "1"
    # The autoscaler's container beside the head asks for pods in the name of this account.
    assert "automountServiceAccountToken" not in _ray_pods()[0]


def test_ports_are_published_on_loopback_only() -> None:
    ports = [p for service in SERVICES.values() for p in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_nothing_runs_as_root() -> None:
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["1000:1000"]
    assert SERVICES["postgres"]["user"] == "postgres"
    assert all(pod["securityContext"]["runAsNonRoot"] for pod in _pods())
    assert all(
        _container(pod)["securityContext"]["capabilities"]["drop"] == ["ALL"] for pod in _pods()
    )
    assert all(service["cap_drop"] == ["ALL"] for service in SERVICES.values())


def test_pods_are_kept_from_the_variables_of_the_mlflow_service() -> None:
    # Kubernetes would set MLFLOW_PORT=tcp://..., which `mlflow server` reads as its port.
    assert all(pod["enableServiceLinks"] is False for pod in _pods())


def test_mlflow_knows_the_name_under_which_the_driver_calls_it() -> None:
    driver = _environment(_container(_ray_pods()[0]))
    called = urlsplit(SERVICES["study"]["environment"]["MLFLOW_TRACKING_URI"])
    assert driver["MLFLOW_TRACKING_URI"]["value"] == called.geturl()
    assert called.hostname in SERVICES
    assert called.hostname in _manifests("Service")
    server = _mlflow_container()
    checks = [SERVICES["mlflow"]["healthcheck"]["test"][1:]]
    checks += [server[probe]["exec"]["command"] for probe in ("startupProbe", "readinessProbe")]
    assert [check[-1] for check in checks] == [called.netloc] * 3
    for command in (SERVICES["mlflow"]["command"], server["args"]):
        assert called.netloc in _allowed_hosts(command)


def test_both_clusters_start_the_same_mlflow_server() -> None:
    composed = [re.sub(r"\$\{\w+:-(.*)\}", r"\1", w) for w in SERVICES["mlflow"]["command"]]
    assert composed == _mlflow_container()["args"]
    (database,) = (w for w in composed if w.startswith("--backend-store-uri="))
    users = (ROOT / "docker/basic_auth.ini").read_text()
    assert f"database_uri = {database.partition('=')[2]}\n" in users
    assert "postgres" in SERVICES
    assert "postgres" in _manifests("Service")


@dataclass(frozen=True)
class Server:
    """The MLflow of the compose file, with SQLite for PostgreSQL, on a free port."""

    port: int
    url: str
    password: str

    def check(self, name: str, password: str) -> str:
        """What the health check says; nothing when all is well."""
        command = [sys.executable, str(ROOT / "docker/mlflow_ready.py"), f"{name}:{self.port}"]
        environment = os.environ | {"MLFLOW_AUTH_ADMIN_PASSWORD": password}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert bool(done.returncode) == bool(done.stderr)
        return done.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    database = f"sqlite:///{folder}/mlflow.db"
    users = (ROOT / "docker/basic_auth.ini").read_text()
    (folder / "users.ini").write_text(
        users.replace("postgresql://mlflow@postgres/mlflow", database)
    )
    words = [
        word.replace("0.0.0.0", "127.0.0.1")
        .replace("5000", str(port))
        .replace("postgresql://mlflow@postgres/mlflow", database)
        .replace("--workers=2", "--workers=1")
        .replace("/mlflow/", f"{folder}/")
        for word in _mlflow_container()["args"]
    ]
    found = Server(port, f"http://127.0.0.1:{port}", "a long % pass:word@")
    environment = os.environ | dict(re.findall(r"\b(MLFLOW_\w+)=(\w+)", DOCKERFILE))
    environment |= {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "users.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": found.password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a key",
    }
    command = [sys.executable, "-m", *words]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            while not _is_healthy(found.url):
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.2)
            yield found
        finally:
            process.terminate()


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=30):
            return True
    except urllib.error.URLError:
        return False


def test_the_health_check_of_mlflow_sees_a_wrong_name_and_a_wrong_password(server: Server) -> None:
    assert server.check("mlflow", server.password) == ""
    assert server.check("localhost", server.password) == ""
    assert "403" in server.check("elsewhere", server.password)
    assert "401" in server.check("mlflow", "not this one")


def test_a_driver_writes_with_its_password_and_is_told_when_it_has_none(
    server: Server, made_up_study: Callable[..., StudyFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made_up_study(seeds=(0,), steps=20)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TrackingUnavailable) as refused:
        Tracker(folder, server.url).sync()
    assert str(refused.value) == (
        f"{server.url}: it asks for a user and a password (401): set MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD, and look for mistakes in them"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", server.password)
    assert Tracker(folder, server.url).sync().points > 0


@pytest.mark.parametrize(
    ("words", "job", "reason"),
    [
        ([], "1", "no study given: sbatch docker/slurm.sh STUDY"),
        (["study.toml"], "", "this is no Slurm job: use sbatch"),
    ],
)
def test_the_slurm_script_says_what_it_lacks(words: list[str], job: str, reason: str) -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "docker/slurm.sh"), *words],
        env=os.environ | {"SLURM_JOB_ID": job},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert reason in done.stderr
