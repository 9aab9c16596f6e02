"""Which cluster is joined, and what a person reads who is not let in: real Ray, real refusals."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
import ray

from harness.errors import UserError
from tune.cluster.joining import SUBMITTED_JOB, check_cluster, cluster_meant, ignored_address


def test_without_an_address_nobodys_cluster_is_joined() -> None:
    somebodys = {"RAY_ADDRESS": "10.0.0.1:6379"}
    assert cluster_meant(None, somebodys) is None
    said = ignored_address(None, somebodys)
    assert said is not None
    assert said.startswith("RAY_ADDRESS=10.0.0.1:6379 is set, and this run does not join")
    assert "--address auto" in said
    assert cluster_meant("local", {}) is None


def test_who_names_a_cluster_joins_it() -> None:
    assert cluster_meant("auto", {}) == "auto"
    assert cluster_meant("10.0.0.1:6379", {}) == "10.0.0.1:6379"
    assert ignored_address("auto", {"RAY_ADDRESS": "10.0.0.1:6379"}) is None


def test_a_command_that_was_submitted_as_a_ray_job_is_in_its_cluster() -> None:
    job = {"RAY_ADDRESS": "10.0.0.1:6379", SUBMITTED_JOB: "{}"}
    assert cluster_meant(None, job) == "auto"
    assert ignored_address(None, job) is None


def test_an_address_where_nothing_listens_is_named_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match=f"no Ray cluster answers at '{address}'.*refused"):
            check_cluster(address)


def test_a_ray_client_is_not_what_is_meant() -> None:
    with pytest.raises(UserError, match="Ray Client"):
        check_cluster("ray://10.0.0.1:10001")


@pytest.fixture
def address() -> str:
    """Of the Ray of these tests, which asks for a token as every Ray of `ray.init` does."""
    return str(ray.get_runtime_context().gcs_address)


def test_a_cluster_that_answers_with_the_same_versions_is_joined(address: str) -> None:
    assert check_cluster(address) == address


@pytest.fixture
def other_versions(address: str) -> Iterator[None]:
    """What a head of another Ray and Python has written."""
    kv = ray.experimental.internal_kv
    place = {"namespace": "cluster"}
    known = kv._internal_kv_get("CLUSTER_METADATA", **place)
    other = {**json.loads(known), "ray_version": "2.9.0", "python_version": "3.8.1"}
    kv._internal_kv_put("CLUSTER_METADATA", json.dumps(other), overwrite=True, **place)
    yield
    kv._internal_kv_put("CLUSTER_METADATA", known, overwrite=True, **place)


@pytest.mark.usefixtures("other_versions")
def test_another_ray_or_python_is_refused_with_both_versions(address: str) -> None:
    with pytest.raises(UserError, match=rf"Ray 2\.9\.0 and Python 3\.8\.1.* Ray {ray.__version__}"):
        check_cluster(address)


CHECK = """
import sys
from harness.errors import UserError
from tune.cluster.joining import check_cluster
try:
    check_cluster(sys.argv[1])
except UserError as error:
    print(error)
"""


def test_a_wrong_or_missing_token_is_one_clear_error(address: str) -> None:
    given = {
        "another": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
        "missing": {"RAY_AUTH_MODE": "token", "HOME": "/nowhere"},
        "none": {"RAY_AUTH_MODE": "disabled"},
    }
    plain = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    asking = {
        name: subprocess.Popen(
            [sys.executable, "-c", CHECK, address],
            env={**plain, **token},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for name, token in given.items()
    }
    for name, process in asking.items():
        said = process.communicate(timeout=120)[0]
        assert "refuses this run: it asks for a token" in said, name
        assert "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" in said
