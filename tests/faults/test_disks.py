"""Disks that are full, cannot be written or are in the way: one error, nothing half written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from made_up import MadeUpStudy

from harness.cli.main import main
from harness.data import prepare
from harness.errors import UserError
from harness.runs import json_lines
from harness.runs.files import write_bytes
from harness.runs.folder import StudyFolder
from harness.runs.stop_request import StopRequest
from harness.study.load import load_study
from harness.study.plan import expand

ROOT = Path(__file__).parents[2]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"mounting a tmpfs is not permitted here: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    return filler


def read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def optbench(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "RAY_ADDRESS": "local"},
    )


def a_request(size: int) -> StopRequest:
    return StopRequest(why="x" * size, at="2026-01-02T03:04:05+00:00", by="somebody@host")


@pytest.mark.faults
def test_a_line_that_does_not_fit_leaves_the_lines_before_it_whole(disk: Path) -> None:
    path = disk / "lines.jsonl"
    json_lines.append(path, a_request(10))
    before = path.read_bytes()
    filler = fill(disk)
    with pytest.raises(OSError, match="No space") as error:
        json_lines.append(path, a_request(100_000))
    assert error.value.filename == str(path)
    assert path.read_bytes() == before
    filler.unlink()
    json_lines.append(path, a_request(20))
    assert path.read_bytes().startswith(before)
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.faults
def test_a_file_that_does_not_fit_leaves_the_old_one(disk: Path) -> None:
    path = disk / "file.json"
    write_bytes(path, b"old")
    filler = fill(disk)
    with pytest.raises(OSError, match="No space") as error:
        write_bytes(path, bytes(100_000))
    assert error.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert sorted(disk.iterdir()) == [path, filler]


@pytest.mark.faults
def test_a_report_on_a_full_disk_is_one_line_and_keeps_the_results(disk: Path) -> None:
    folder = MadeUpStudy(seeds=(0, 1, 2), every=120).write(disk)
    results = {path: path.read_bytes() for path in folder.path.rglob("*.json*")}
    for done in (optbench("report", "made-up", "--runs-dir", disk), _when_full(disk)):
        assert done.returncode in (1, 2), done.stdout + done.stderr
        assert done.stderr.startswith("error: "), done.stderr
        assert "No space left on device" in done.stderr
        assert str(disk) in done.stderr
        assert "make room" in done.stderr
        assert done.stderr.count("\n") == 1
    assert {path: path.read_bytes() for path in results} == results


def _when_full(disk: Path) -> subprocess.CompletedProcess[str]:
    fill(disk)
    return optbench("report", "made-up", "--runs-dir", disk)


@pytest.mark.faults
def test_a_disk_that_can_only_be_read_is_named_before_anything_starts(disk: Path) -> None:
    MadeUpStudy(seeds=(0, 1, 2), every=120).write(disk)
    read_only(disk)
    assert optbench("status", "made-up", "--runs-dir", disk).returncode == 0
    done = optbench("report", "made-up", "--runs-dir", disk)
    assert done.returncode == 2, done.stderr
    assert "Read-only file system" in done.stderr
    assert "--runs-dir" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.faults
def test_a_run_whose_disk_fills_up_goes_on_once_there_is_room(
    disk: Path, edited_study: Callable[..., Path]
) -> None:
    study = edited_study(("steps = 6", "steps = 60"), ("[0, 1, 2]", "[0]"))
    subprocess.run(["mount", "-o", "remount,size=48k", str(disk)], check=True)
    done = optbench("run", study, "--runs-dir", disk)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert f" {disk}/tiny/" in line
    assert "No space left on device: make room" in line
    for path in disk.rglob("*.jsonl"):
        assert path.read_bytes()[-1:] in (b"", b"\n")
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    done = optbench("run", study, "--runs-dir", disk)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(disk.glob("tiny/trials/*/outcome.json"))) == 2


@pytest.mark.faults
def test_a_slow_disk_holds_up_no_turn_of_the_loop(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn takes at most a tenth of a second when nothing happens, and this fsync twice that."""
    import ray

    from tune import driver
    from tune.cluster.local_ray import lean
    from tune.job import Job, Launch
    from tune.recording.recorder import Recorder

    turns, turns_meanwhile = [0], []
    fsync, on_step_begin = os.fsync, Recorder.on_step_begin

    def slow(descriptor: int) -> None:
        before = turns[0]
        time.sleep(0.2)
        fsync(descriptor)
        turns_meanwhile.append(turns[0] - before)

    def counted(recorder: Recorder, *arguments: Any, **options: Any) -> None:
        turns[0] += 1
        on_step_begin(recorder, *arguments, **options)

    study = load_study(study_file)
    dataset = prepare(study.data)
    specs = list(expand(study, dataset.manifest.sha256).values())
    folder = StudyFolder(tmp_path / "study")
    with lean():
        ray.init("local", num_cpus=2, log_to_driver=False, logging_level="error")
    try:
        monkeypatch.setattr(os, "fsync", slow)
        monkeypatch.setattr(Recorder, "on_step_begin", counted)
        driver.run_trials(
            [Job(spec=spec, variants=("some",), detail=f"seed {spec.seed}") for spec in specs],
            launch=Launch(
                folder=folder,
                dataset_path=dataset.path,
                resources=study.resources,
                checkpoints=study.checkpoints,
            ),
            observers=[],
        )
    finally:
        ray.shutdown()
    # None at all, if the loop's own thread wrote; trials this short end within a few records.
    assert sum(turns_meanwhile) > len(specs), "the loop stood still while something was written"
    for spec in specs:
        reports, outcome = folder.trial(spec.key).results()
        assert [report.step for report in reports] == [0, 3, 6]
        assert outcome is not None


@pytest.mark.parametrize("where", ["runs", "runs/study"])
def test_a_file_in_place_of_a_folder_is_named_before_anything_starts(
    tmp_path: Path, where: str
) -> None:
    path = tmp_path / where
    path.parent.mkdir(exist_ok=True)
    path.write_text("a file")
    refused = pytest.raises(UserError, match=r"cannot write results in .*runs/study")
    with refused, StudyFolder(tmp_path / "runs" / "study").locked():
        pytest.fail("nothing may start")
    assert path.read_text() == "a file"


def test_a_folder_that_cannot_be_made_is_named() -> None:
    with pytest.raises(UserError, match="/proc"), StudyFolder(Path("/proc/study")).locked():
        pytest.fail("nothing may start")


def test_a_line_refused_in_the_middle_leaves_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lines.jsonl"
    json_lines.append(path, a_request(10))
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        json_lines.append(path, a_request(10))
    assert path.read_bytes() == before


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_error_of_a_disk_is_one_line_also_through_ray(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrapped: bool
) -> None:
    def app() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/runs/[/data]/plan.json")
        except OSError:
            if wrapped:
                raise RuntimeError("Ray Tune hides it")  # noqa: B904
            raise

    monkeypatch.setattr("harness.cli.main.app", app)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    assert capsys.readouterr().err == (
        "error: /runs/[/data]/plan.json: No space left on device: make room there. What was "
        "finished is kept: then run the same command again\n"
    )


def test_an_error_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def app() -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file", "template.html")

    monkeypatch.setattr("harness.cli.main.app", app)
    with pytest.raises(FileNotFoundError):
        main()
