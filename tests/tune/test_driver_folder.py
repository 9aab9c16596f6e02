"""Checkpoints that travel to the driver's folder, through a real actor of a local Ray."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tune.delivery import driver_files
from tune.delivery.driver_files import Driver, DriverFiles, dismiss, introduce
from tune.delivery.driver_folder import DriverFolder
from tune.delivery.receiving import folder_here

CHUNK = 64
PLACE = ("trials", "0123", "checkpoints")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def actor(study: Path) -> Iterator[Any]:
    import ray

    actor = ray.remote(DriverFiles).options(num_cpus=0, max_concurrency=4).remote("", str(study))
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
        lambda files: files.names(("trials", "0123")),
        lambda files: files.names(("trials", "..", "checkpoints")),
        lambda files: files.names((*PLACE, "../..")),
        lambda files: files.names(("/etc", "0123", "checkpoints")),
        lambda files: files.size(PLACE, "../spec.json"),
        lambda files: files.read(PLACE, "../../../plan.json", 0, 1),
        lambda files: files.remove(PLACE, ".."),
        lambda files: files.remove(PLACE, ""),
        lambda files: files.write(PLACE, "../x", 0, b"x"),
        lambda files: files.finish(PLACE, ".a", "../outcome.json"),
        lambda files: files.give_up(PLACE, "../../plan.json"),
        lambda files: files.read_data("../plan.json", 0, 1),
    ],
)
def test_no_name_leads_out_of_the_checkpoints_of_a_trial(
    study: Path, ask: Callable[[DriverFiles], Any]
) -> None:
    (study / "plan.json").write_text("{}")
    with pytest.raises(ValueError, match="is no"):
        ask(DriverFiles(str(study / "data"), str(study)))
    with pytest.raises(ValueError, match="is no folder of checkpoints"):
        DriverFiles(str(study / "data"), "").names(PLACE)
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


def test_a_file_that_could_not_be_finished_leaves_nothing(
    folder: DriverFolder, study: Path
) -> None:
    child, there = folder.child("step-00000006"), study.joinpath(*PLACE, "step-00000006")
    with pytest.raises(ValueError, match="is no name of a file"):
        put(child, "..", b"content")
    until = time.monotonic() + 60
    while list(there.iterdir()) and time.monotonic() < until:
        time.sleep(0.02)  # the actor hears of it, and nobody waits for that
    assert list(there.iterdir()) == []


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


def _until_it_fails(ask: Callable[[], Any], until: float) -> None:
    while time.monotonic() < until:
        ask()


def test_the_actor_that_dies_comes_back_and_ends_with_the_driver(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    where = str(study.joinpath(*PLACE))
    alone = introduce(dataset_path=study, study=study)
    assert alone["files"] is None
    assert folder_here(alone, where, lambda: None) == where
    monkeypatch.setattr(driver_files, "_alone", lambda: False)
    driver = introduce(dataset_path=study, study=study)
    assert introduce(dataset_path=study, study=study) == driver
    assert folder_here(driver, where, lambda: None) == where, "this is the driver's own node"
    assert driver["files"] is not None
    elsewhere: Driver = {**driver, "node": "another"}

    def folder() -> DriverFolder:
        found = folder_here(elsewhere, where, lambda: None)
        assert isinstance(found, DriverFolder)
        return found

    put(folder().child("step-00000012"), "part", b"content")
    assert folder_here(elsewhere, "/mnt/all/study/0123", lambda: None) == "/mnt/all/study/0123"
    assert folder_here(elsewhere, "s3://bucket/x", lambda: None) == "s3://bucket/x"

    actor = ray.get_actor(driver["files"])
    process = psutil.Process(ray.get(actor.__ray_call__.remote(lambda _: os.getpid())))
    process.kill()
    psutil.wait_procs([process], timeout=60)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            assert folder().child("step-00000012").size("part") == 7
            break
    (study / "owner.json").write_text("this process")
    assert folder_here(elsewhere, where, lambda: None) == where, "it sees the driver's disk"
    other = study / "of-another-driver"
    other.mkdir()
    (other / "owner.json").write_text("another process")
    found = folder_here({**elsewhere, "study": str(other)}, str(other / "x"), lambda: None)
    assert isinstance(found, DriverFolder), "a folder of the same name is not the same folder"
    (study / "owner.json").unlink()

    last = folder()
    dismiss(driver)
    with pytest.raises(OSError, match="the driver's node does not answer"):
        _until_it_fails(last.names, until)
    with pytest.raises(OSError, match="it has ended"):
        folder()
