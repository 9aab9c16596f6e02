"""Checkpoints on file systems of pyarrow: what an object store would see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from harness.errors import UserError
from harness.study.code_version import code_sha256
from harness.training import loop
from harness.training.checkpoint import newest, newest_valid, resume, saving, storage
from harness.training.checkpoint.storage import (
    LocalFolder,
    RemoteFolder,
    check_storage,
    open_folder,
)

EVERY_TWO = {"checkpoint_every_minutes": 0.0, "checkpoint_every_steps": 2}
OFTEN = "training.evaluation_every=1"


def in_a_folder(path: Path) -> fs.FileSystem:
    return fs.SubTreeFileSystem(str(path), fs.LocalFileSystem())


def in_memory(path: Path) -> fs.FileSystem:
    return fs._MockFileSystem()


@pytest.fixture(params=[in_a_folder, in_memory])
def remote(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> fs.FileSystem:
    """What `bucket://...` leads to."""
    (tmp_path / "bucket").mkdir()
    filesystem = request.param(tmp_path / "bucket")

    def opened(where: str | Path) -> storage.Folder:
        path = str(where).removeprefix("bucket://")
        return RemoteFolder(filesystem, path, where=str(where))

    for module in (newest, resume, saving, loop):
        monkeypatch.setattr(module, "open_folder", opened)
    return filesystem


def test_a_trial_saves_and_goes_on_where_there_are_no_renames(
    remote: fs.FileSystem,
    run: Callable[..., Any],
    make: Callable[..., Any],
    without_times: Callable[..., Any],
) -> None:
    where = "bucket://runs/key/checkpoints"
    whole, _ = run(OFTEN, checkpoints=where, checkpoints_kept=1, **EVERY_TWO)
    listed = remote.get_file_info(fs.FileSelector("runs/key/checkpoints", recursive=True))
    assert sorted(info.base_name for info in listed) == [
        "manifest.json",
        "part-00000-of-00001.safetensors",
        "step-00000004",
    ]
    found = newest_valid(where, make(OFTEN)[0], code_sha256())
    assert found is not None
    assert (found.folder, found.step) == (f"{where}/step-00000004", 4)
    reports, _ = run(OFTEN, resume_from=found.folder)
    assert [without_times(r) for r in reports] == [without_times(r) for r in whole[4:]]


def test_a_part_that_was_cut_off_there_is_seen(
    remote: fs.FileSystem, run: Callable[..., Any], make: Callable[..., Any]
) -> None:
    where = "bucket://runs/key/checkpoints"
    run(OFTEN, checkpoints=where, **EVERY_TWO)
    with remote.open_output_stream(
        "runs/key/checkpoints/step-00000004/part-00000-of-00001.safetensors"
    ) as file:
        file.write(b"half")
    found = newest_valid(where, make(OFTEN)[0], code_sha256())
    assert found is not None
    assert found.step == 2
    assert "is 4 bytes instead of" in found.skipped[0]


def test_uris_and_paths_lead_to_the_same_local_folder(tmp_path: Path) -> None:
    for where in (tmp_path, str(tmp_path), f"file://{tmp_path}"):
        folder = open_folder(where)
        assert isinstance(folder, LocalFolder)
        assert folder.path == tmp_path


def test_a_uri_of_no_known_file_system_is_said_to_be_so() -> None:
    with pytest.raises(UserError, match=r"kept at what://bucket: .*: name a path, or a URI"):
        open_folder("what://bucket")


def test_a_local_file_appears_whole_and_readable_by_others(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path / "new")
    written = folder.temporary()
    written.write_text("content")
    assert folder.names() == []  # hidden until it is complete
    folder.put("file", written)
    assert (tmp_path / "new" / "file").read_text() == "content"
    assert (tmp_path / "new" / "file").stat().st_mode & 0o777 == 0o644
    assert (folder.names(), folder.size("file"), folder.size("none")) == (["file"], 7, None)


def test_storage_is_tried_before_anything_is_trained(tmp_path: Path) -> None:
    check_storage(f"file://{tmp_path}/new")
    assert list((tmp_path / "new").iterdir()) == [], "nothing stays there"
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"kept at .*/file/x: Not a directory"):
        check_storage(str(tmp_path / "file" / "x"))


def test_a_folder_that_is_open_stays_what_it_is(tmp_path: Path) -> None:
    folder = RemoteFolder(in_a_folder(tmp_path), "bucket")
    assert open_folder(folder) is folder


def test_a_copy_that_came_damaged_from_another_host_is_seen(
    run: Callable[..., Any], make: Callable[..., Any], saved_once: Path
) -> None:
    class Damaging(RemoteFolder):
        def local(self, name: str, scratch: Path) -> Path:
            path = super().local(name, scratch)
            path.write_bytes(path.read_bytes()[:-1] + b"x")
            return path

    folder = Damaging(in_a_folder(saved_once), "step-00000004")
    with pytest.raises(UserError, match="is not what was written"):
        run(OFTEN, resume_from=folder)
