"""One local Ray for all tests of this folder: it takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def local_ray() -> Iterator[None]:
    """Four logical CPUs, so that gangs of two fit anywhere, and two GPUs that Ray only counts."""
    import ray

    from tune.cluster.local_ray import lean

    with lean():
        ray.init("local", num_cpus=4, num_gpus=2, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()
