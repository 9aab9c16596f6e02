"""Before a cluster is joined: which one is meant, does it answer, let us in, and match.

Ray itself tries for twenty seconds or more, and then says what a library of its has said.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from harness.errors import UserError

ANSWER_S = 10.0
"""For a connection; the head of a cluster that is there answers within milliseconds."""

# What Ray sets for a command that was submitted to a cluster as a job.
SUBMITTED_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
LOCAL = "local"


def cluster_meant(address: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The cluster to join; None: a Ray of our own is started.

    Without an address nobody's cluster is joined, whatever `RAY_ADDRESS` says: it stays in a shell,
    or a system sets it. A command that was submitted as a Ray job is in its cluster already.
    """
    if address is None:
        return "auto" if SUBMITTED_JOB in environment else None
    return None if address == LOCAL else address


def ignored_address(address: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """What to say where `RAY_ADDRESS` names a cluster that is not joined."""
    named = environment.get("RAY_ADDRESS")
    if address is not None or named in (None, "", LOCAL) or SUBMITTED_JOB in environment:
        return None
    return (
        f"RAY_ADDRESS={named} is set, and this run does not join that cluster: it trains on this "
        "machine. Give --address auto to train there"
    )


def check_cluster(address: str) -> str:
    """Where the head of this cluster answers, as host:port.

    Raises:
        UserError: it does not answer, refuses the token, or has another Ray or Python.
    """
    import ray
    from ray import _raylet
    from ray._private import services
    from ray._private.authentication import authentication_token_setup as authentication

    if address.startswith("ray://"):
        raise UserError(
            f"--address {address!r}: through a Ray Client the results would be written on the head "
            "node; run this command on a node of the cluster with --address auto"
        )
    raylet: Any = _raylet
    try:
        found: str = services.canonicalize_bootstrap_address_or_die(address)
    except ConnectionError:
        raise _silent(address, "no Ray was started on this machine") from None
    host, _, port = found.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except (OSError, ValueError) as error:
        raise _silent(address, f"{found}: {error}") from None
    try:
        if address == "auto":
            authentication.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
        authentication.ensure_token_if_auth_enabled(create_token_if_missing=False)
        client = raylet.GcsClient(address=found)
        known = client.internal_kv_get(b"CLUSTER_METADATA", b"cluster")
    except ray.exceptions.AuthenticationError:
        mode = os.environ.get("RAY_AUTH_MODE")
        raise UserError(
            f"the Ray cluster at {found} refuses this run: it asks for a token, and "
            + ("the one given here is another or none" if mode == "token" else "none was given")
            + ": set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to the token "
            "that the cluster was started with (`ray get-auth-token` prints it on its head)"
        ) from None
    except ray.exceptions.RpcError as error:
        raise _silent(address, f"{found}: {error}") from None
    _check_versions(found, json.loads(known) if known else {})
    return found


def _silent(address: str, why: str) -> UserError:
    return UserError(
        f"no Ray cluster answers at {address!r} ({why}): start one with `ray start --head`, or "
        "leave out --address to train on this machine"
    )


def _check_versions(where: str, metadata: Mapping[str, str]) -> None:
    """Ray refuses the same, later and in more words."""
    from ray._private import utils

    if not metadata:
        return
    with suppress(RuntimeError):
        utils.check_version_info(metadata, "this machine")
        return
    ray_here, python_here = utils.compute_version_info()
    raise UserError(
        f"the Ray cluster at {where} was started with Ray {metadata['ray_version']} and Python "
        f"{metadata['python_version']}, and this environment has Ray {ray_here} and Python "
        f"{python_here}: both must be the same on every node; install those versions here, or "
        "start the cluster from this environment"
    )
