"""The studies that share a cluster: each driver is seen by the others as the name of an actor.

The actor does nothing. It belongs to its driver and goes with it, however that ends.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tune.cluster.connection import is_joined

NAMESPACE = "optbench-studies"
BEGUN = time.time()  # of this process: the oldest study comes first


class Presence:
    """Nothing but a name."""


@contextmanager
def present(study: str) -> Iterator[str | None]:
    """While this is open, other drivers on this cluster count this study.

    Yields:
        its name among `studies_here`; None where nobody else can come, in a Ray of our own.
    """
    if not is_joined():
        yield None
        return
    plain = re.sub(r"[^\w.-]", "_", study)
    name = f"{BEGUN:017.6f} {os.getpid()} {plain}"
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = (
        ray.remote(Presence)
        .options(
            name=name, namespace=NAMESPACE, num_cpus=0, max_restarts=-1, scheduling_strategy=here
        )
        .remote()
    )
    try:
        yield name
    finally:
        with suppress(ray.exceptions.RayError):
            ray.kill(actor)


def studies_here(own: str | None) -> list[str]:
    """Names of the studies under way on this cluster, with `own`, the oldest first."""
    if own is None:
        return [""]
    named = ray.util.list_named_actors(all_namespaces=True)
    others = {actor["name"] for actor in named if actor["namespace"] == NAMESPACE}
    return sorted(others | {own})


def study_of(name: str) -> str:
    return name.rpartition(" ")[2]
