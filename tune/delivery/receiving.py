"""What a trial needs on the host of each worker: the data, and the way to its checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.data import TokenDataset
from harness.data.delivered import Undelivered, obtain
from tune.cluster.capacity import GangSize
from tune.cluster.nodes import training_nodes
from tune.delivery.driver_files import CHUNK_BYTES, Driver, answer, dismiss, in_flight, introduce
from tune.delivery.driver_folder import Beat, DriverFolder
from tune.patience import LOOK_EVERY_S, SLOW_STAGE_S

HOSTS_AT_ONCE = 8
"""All are served by the driver's host, whose network is the limit."""


def at_this_host(spec: Mapping[str, Any], context: dict[str, Any], pulse: Any) -> dict[str, Any]:
    """A worker's context with paths and folders of this host in place of the driver's.

    What has to be brought here is brought now, before the other workers wait for this one.
    """
    driver: Driver = context.pop("driver")

    def beat() -> None:
        pulse.beat(pulse.doing)

    dataset = dataset_here(driver, spec["data_sha256"], beat)
    folders = {
        name: None if context[name] is None else folder_here(driver, context[name], beat)
        for name in ("checkpoints", "resume_from")
    }
    if isinstance(resume_from := folders["resume_from"], DriverFolder):
        resume_from.fetch()
    return {**context, **folders, "dataset_path": dataset.path}


def dataset_here(driver: Driver, sha256: str, beat: Beat = lambda: None) -> TokenDataset:
    """The data on this host, brought here if need be, and verified once in this process.

    Raises:
        harness.data.delivered.Undelivered: it cannot be brought.
    """
    path, chunks = driver["dataset_path"], None
    if driver["files"] is not None and not _on_the_drivers_node(driver):
        chunks = partial(_chunks_of_data, driver["files"])
    return obtain(sha256, path=Path(path), chunks=chunks, beat=beat)


def _chunks_of_data(files: str, name: str) -> Iterable[Any]:
    actor = _actor(files)
    size = answer(actor.data_size.remote(name))
    return in_flight(
        partial(actor.read_data.remote, name, at, CHUNK_BYTES) for at in range(0, size, CHUNK_BYTES)
    )


def folder_here(driver: Driver, where: str, beat: Beat) -> str | DriverFolder:
    """The driver's folder of a study as this host reaches it; anything else stays as it is."""
    if driver["files"] is None or not _is_below(where, driver["study"]):
        return where
    if _on_the_drivers_node(driver) or _sees_the_study(driver):
        return where
    return DriverFolder(_actor(driver["files"]), driver["study"], Path(where), beat)


def _is_below(where: str, study: str) -> bool:
    return "://" not in where and Path(where).is_relative_to(study)


def _on_the_drivers_node(driver: Driver) -> bool:
    node: str = ray.get_runtime_context().get_node_id()
    return node == driver["node"]


def _sees_the_study(driver: Driver) -> bool:
    """Whether the folder of that name here is the driver's own, on a disk that they share.

    Its owner.json names the driver's process, so no other folder has the same one.
    """
    assert driver["files"] is not None, "asked only where the driver serves its files"
    with suppress(OSError):
        here = (Path(driver["study"]) / "owner.json").read_bytes()
        return bool(here == answer(_actor(driver["files"]).owner.remote()))
    return False


def _actor(name: str) -> Any:
    """Raises OSError: it has gone, and the driver with it."""
    try:
        return ray.get_actor(name)
    except ValueError:
        raise OSError("the driver's files are not served any more: it has ended") from None


def undelivered(gang: GangSize, *, dataset_path: Path, data_sha256: str) -> dict[str, str]:
    """Brings the data to every node that can train: the nodes, by name, where it failed, and why.

    A node that is lost meanwhile is left out. Nodes that join later bring the data themselves.
    """
    nodes = training_nodes(gang)
    if not nodes:
        return {}
    driver = introduce(dataset_path=dataset_path.absolute())
    try:
        return _bring(driver, data_sha256, nodes)
    finally:
        dismiss(driver)


def _bring(driver: Driver, sha256: str, nodes: Mapping[str, str]) -> dict[str, str]:
    problems: dict[str, str] = {}
    waiting, asked = list(nodes.items()), dict[Any, str]()
    moved = _Moved(driver)
    while waiting or asked:
        while waiting and len(asked) < HOSTS_AT_ONCE:
            name, node = waiting.pop(0)
            asked[_ask(node, driver, sha256)] = name
        ready, _ = ray.wait(list(asked), num_returns=1, timeout=LOOK_EVERY_S)
        for reference in ready:
            name = asked.pop(reference)
            with suppress(ray.exceptions.RayError):
                if (problem := ray.get(reference)) is not None:
                    problems[name] = problem
        if moved.since_s(bool(ready)) > SLOW_STAGE_S:
            for reference, name in asked.items():
                ray.cancel(reference, force=True)
                problems[name] = f"no byte of the data has come there for {SLOW_STAGE_S:.0f} s"
            asked = {}
    return problems


def _problem(driver: Driver, sha256: str) -> str | None:
    try:
        dataset_here(driver, sha256)
    except Undelivered as error:
        return str(error)
    return None


def _ask(node: str, driver: Driver, sha256: str) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": strategy}
    return ray.remote(_problem).options(**options).remote(driver, sha256)


class _Moved:
    """Since when no node has finished and the driver has served no byte."""

    def __init__(self, driver: Driver) -> None:
        self.files, self.served, self.at = driver["files"], 0, time.monotonic()

    def since_s(self, finished: bool) -> float:
        served = self.served
        if self.files is not None:
            with suppress(OSError):  # Ray starts it again
                served = answer(_actor(self.files).served.remote())
        if finished or served != self.served:
            self.served, self.at = served, time.monotonic()
        return time.monotonic() - self.at
