"""One local Ray for all tests of this folder: it takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def local_ray() -> Iterator[None]:
    """Four logical CPUs, so that gangs of two fit whatever the machine."""
    import ray

    from tune.local_ray import lean

    with lean():
        ray.init("local", num_cpus=4, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()
