"""Checkpoints that travel to the driver's folder, through a real actor of a local Ray."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tune.driver_files import DriverFiles
from tune.driver_folder import DriverFolder

CHUNK = 64
PLACE = ("trials", "0123", "checkpoints")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def actor(study: Path) -> Iterator[Any]:
    import ray

    actor = ray.remote(DriverFiles).options(num_cpus=0, max_concurrency=4).remote()
    ray.get(actor.open.remote(str(study)))
    yield actor
    ray.kill(actor)


@pytest.fixture
def folder(actor: Any, study: Path) -> DriverFolder:
    return DriverFolder(actor, str(study), study.joinpath(*PLACE), chunk_bytes=CHUNK)


def put(folder: DriverFolder, name: str, content: bytes) -> None:
    written = folder.temporary()
    written.write_bytes(content)
    folder.put(name, written)
    assert not written.exists()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(chunks=st.integers(0, 7), more=st.integers(-1, 1), seed=st.integers(0, 255))
def test_a_file_comes_back_as_it_went_whatever_its_size(
    folder: DriverFolder, study: Path, tmp_path: Path, chunks: int, more: int, seed: int
) -> None:
    content = bytes((i + seed) % 251 for i in range(max(0, chunks * CHUNK + more)))
    child = folder.child("step-00000002")
    put(child, "part", content)
    there = study.joinpath(*PLACE, "step-00000002")
    assert (there / "part").read_bytes() == content
    assert [path.name for path in there.iterdir()] == ["part"], "nothing is left beside it"
    assert (folder.names(), child.names()) == (["step-00000002"], ["part"])
    assert (child.size("part"), child.size("none")) == (len(content), None)
    assert child.sha256("part") == hashlib.sha256(content).hexdigest()
    with child.stream("part") as file:
        assert file.read(10) + file.read() == content
    assert child.local("part", tmp_path).read_bytes() == content
    child.fetch()
    (there / "part").write_bytes(b"another")
    assert child.local("part", tmp_path).read_bytes() == content, "what was fetched, once"
    assert child.local("part", tmp_path).read_bytes() == b"another"
    folder.remove("step-00000002")
    assert folder.names() == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda files, study: files.names(study, ("trials", "0123")),
        lambda files, study: files.names(study, ("trials", "..", "checkpoints")),
        lambda files, study: files.names(study, (*PLACE, "../..")),
        lambda files, study: files.names(study, ("/etc", "0123", "checkpoints")),
        lambda files, study: files.names("/etc", PLACE),
        lambda files, study: files.size(study, PLACE, "../spec.json"),
        lambda files, study: files.read(study, PLACE, "../../../plan.json", 0, 1),
        lambda files, study: files.remove(study, PLACE, ".."),
        lambda files, study: files.remove(study, PLACE, ""),
        lambda files, study: files.write(study, PLACE, "../x", 0, b"x"),
        lambda files, study: files.finish(study, PLACE, ".a", "../outcome.json"),
        lambda files, study: files.give_up(study, PLACE, "../../plan.json"),
        lambda files, study: files.read_data(study, "plan.json", 0, 1),
        lambda files, study: files.read_data("/etc", "manifest.json", 0, 1),
        lambda files, study: files.owner("/etc"),
    ],
)
def test_no_name_leads_out_of_the_checkpoints_of_a_trial(
    study: Path, ask: Callable[[DriverFiles, str], Any]
) -> None:
    files = DriverFiles()
    files.open(str(study))
    (study / "plan.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is no|has not opened"):
        ask(files, str(study))
    assert (study / "plan.json").read_text() == "{}"


def test_workers_that_save_at_once_do_not_disturb_each_other(
    folder: DriverFolder, study: Path
) -> None:
    contents = {f"part-{rank}": bytes([rank]) * (5 * CHUNK + rank) for rank in range(6)}
    child = folder.child("step-00000004")
    threads = [threading.Thread(target=put, args=(child, *item)) for item in contents.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    there = study.joinpath(*PLACE, "step-00000004")
    assert {path.name: path.read_bytes() for path in there.iterdir()} == contents


def test_what_the_drivers_disk_says_is_heard_where_the_worker_is(
    folder: DriverFolder, study: Path, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="is not there"):
        folder.local("none", tmp_path)
    study.joinpath(*PLACE).mkdir(parents=True, exist_ok=True)
    study.joinpath(*PLACE, "step-00000009").write_text("a file in the place of a folder")
    with pytest.raises(OSError, match="step-00000009") as error:
        put(folder.child("step-00000009"), "part", b"content")
    assert error.value.strerror, "as of a disk of its own"


def test_without_the_driver_it_is_an_error_of_the_machine(study: Path) -> None:
    import ray

    actor = ray.remote(DriverFiles).options(num_cpus=0).remote()
    ray.get(actor.open.remote(str(study)))
    folder = DriverFolder(actor, str(study), study.joinpath(*PLACE))
    ray.kill(actor)
    with pytest.raises(OSError, match="the driver's node does not answer"):
        folder.names()
