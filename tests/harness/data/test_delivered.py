"""Data by its content: whatever is cut, damaged, killed or full on the way."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data import DataConfig, DataManifest, OverlapManifest, SplitManifest, default_cache_dir
from harness.data.delivered import Undelivered, delivered_folder, obtain

SEQUENCE = 7
CHUNK = 64


def write_data(folder: Path, *, train: int, validation: int, tokenizer: str = "{}") -> str:
    """A data folder of so many tokens, and its SHA-256."""
    folder.mkdir(parents=True)

    def split(name: str, tokens: int) -> SplitManifest:
        content = bytes((i * 37 + tokens) % 251 for i in range(2 * tokens))
        (folder / f"{name}.bin").write_bytes(content)
        return SplitManifest(
            documents=1,
            text_bytes=1,
            tokens=tokens,
            windows=tokens // (SEQUENCE + 1),
            sha256=hashlib.sha256(content).hexdigest(),
        )

    (folder / "tokenizer.json").write_text(tokenizer)
    manifest = DataManifest(
        source="made up",
        revision="1",
        documents_sha256="0",
        duplicate_documents=0,
        empty_documents=0,
        tokenizer="none",
        tokenizer_sha256=hashlib.sha256(tokenizer.encode()).hexdigest(),
        vocab_size=300,
        end_of_text_id=0,
        dtype="<u2",
        sequence_length=SEQUENCE,
        train=split("train", train),
        validation=split("validation", validation),
        overlap=OverlapManifest(n=1, ngrams=0, seen=0),
        config=DataConfig(sequence_length=SEQUENCE),
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return manifest.sha256


class Source:
    """Serves a folder in chunks, and notes what it was asked for."""

    def __init__(self, folder: Path, chunk: int = CHUNK) -> None:
        self.folder, self.chunk, self.asked = folder, chunk, []

    def __call__(self, name: str) -> Iterator[memoryview]:
        self.asked.append(name)
        content = (self.folder / name).read_bytes()
        for at in range(0, len(content), self.chunk):
            yield memoryview(content)[at : at + self.chunk]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def drivers(tmp_path: Path) -> tuple[Path, str]:
    folder = tmp_path / "driver" / "data" / "made-up"
    return folder, write_data(folder, train=400, validation=40)


NEAR_A_BORDER = st.builds(
    lambda chunks, more: max(SEQUENCE + 1, chunks * CHUNK // 2 + more),
    st.integers(0, 4),
    st.integers(-1, 1),
)


@settings(max_examples=30, deadline=None)
@given(train=NEAR_A_BORDER, validation=NEAR_A_BORDER, tokenizer=st.text(max_size=2 * CHUNK))
def test_what_arrives_in_chunks_is_what_was_sent_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, train: int, validation: int, tokenizer: str
) -> None:
    place = tmp_path_factory.mktemp("round")
    sha256 = write_data(
        place / "driver", train=train, validation=validation, tokenizer=json.dumps(tokenizer)
    )
    dataset = obtain(sha256, chunks=Source(place / "driver"), cache_dir=place / "here")
    assert contents(dataset.path) == contents(place / "driver")
    dataset.verify()


def test_the_drivers_folder_is_used_where_it_is_and_only_with_the_right_tokens(
    drivers: tuple[Path, str], tmp_path: Path
) -> None:
    folder, sha256 = drivers
    source = Source(folder)
    here = tmp_path / "here"
    assert obtain(sha256, path=folder, chunks=source, cache_dir=here).path == folder
    other = tmp_path / "other"
    write_data(other, train=100, validation=40)
    assert obtain(sha256, path=other, chunks=source, cache_dir=here).path.parent == here / "data"
    assert len(source.asked) == 4


def test_what_the_host_itself_has_built_is_not_brought_again(
    drivers: tuple[Path, str], tmp_path: Path
) -> None:
    folder, sha256 = drivers
    found = obtain(sha256, path=Path("/nowhere"), cache_dir=tmp_path / "driver")
    assert found.path == folder


def test_a_damaged_copy_is_brought_anew_and_a_whole_one_is_hashed_once(
    drivers: tuple[Path, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, sha256 = drivers
    source, here = Source(folder), tmp_path / "here"
    hashed: list[str] = []

    def beat() -> None:
        hashed.append("chunk")

    first = obtain(sha256, chunks=source, cache_dir=here, beat=beat)
    hashed.clear()
    assert obtain(sha256, chunks=source, cache_dir=here, beat=beat).path == first.path
    assert (len(source.asked), hashed) == (4, []), "neither brought nor read again"

    content = bytearray((first.path / "train.bin").read_bytes())
    content[100] ^= 1
    (first.path / "train.bin").write_bytes(content)
    again = obtain(sha256, chunks=source, cache_dir=here)
    assert len(source.asked) == 8
    assert contents(again.path) == contents(folder)
    assert "train.bin has SHA-256" in caplog.text
    assert [path.name for path in (here / "data").iterdir() if path.is_dir()] == [first.path.name]


@pytest.mark.parametrize("file", ["train.bin", "validation.bin", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "longer"])
def test_what_is_not_the_data_when_it_arrives_is_not_kept(
    drivers: tuple[Path, str], tmp_path: Path, file: str, damage: str
) -> None:
    folder, sha256 = drivers
    content = (folder / file).read_bytes()
    changed = {
        "flipped": bytes([content[0] ^ 1]) + content[1:],
        "cut": content[:-1],
        "longer": content + b"\n",
    }[damage]
    (folder / file).write_bytes(changed)
    with pytest.raises(Undelivered, match=f"{file} came with SHA-256"):
        obtain(sha256, chunks=Source(folder), cache_dir=tmp_path / "here")
    assert not any(path.is_dir() for path in (tmp_path / "here" / "data").iterdir())


def test_a_driver_whose_folder_is_now_another_is_refused_before_the_tokens_travel(
    drivers: tuple[Path, str], tmp_path: Path
) -> None:
    folder, sha256 = drivers
    source = Source(folder)
    with pytest.raises(Undelivered, match="the driver's folder holds other tokens"):
        obtain("0" * 64, chunks=source, cache_dir=tmp_path / "here")
    assert source.asked == ["manifest.json"]
    with pytest.raises(Undelivered, match=r"neither at .*holds other tokens"):
        obtain("0" * 64, path=folder, cache_dir=tmp_path / "here")
    with (folder / "train.bin").open("rb+") as file:
        file.write(b"x")
    with pytest.raises(Undelivered, match=r"train\.bin has SHA-256"):
        obtain(sha256, path=folder, cache_dir=tmp_path / "here")
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(Undelivered, match=r"manifest\.json is of another version or broken"):
        obtain(sha256, chunks=Source(folder), cache_dir=tmp_path / "here")


FETCH = """
import sys, time
from pathlib import Path
from harness.data.delivered import obtain
folder, sha256, here, wait_s = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), float(sys.argv[4])
def chunks(name):
    print(f"asked for {name}", flush=True)
    for at, byte in enumerate((folder / name).read_bytes()):
        if at == 10 and name == "train.bin":
            time.sleep(wait_s)
        yield bytes([byte])
print(obtain(sha256, chunks=chunks, cache_dir=here).path, flush=True)
"""


def fetch(folder: Path, sha256: str, here: Path, *, wait_s: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, str(folder), sha256, str(here), str(wait_s)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ.copy(),
    )


def until_train_is_asked_for(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if "train.bin" in line:
            return


def test_a_killed_fetch_leaves_nothing_and_workers_that_wait_bring_it_once(
    drivers: tuple[Path, str], tmp_path: Path
) -> None:
    folder, sha256 = drivers
    here = tmp_path / "here"
    killed = fetch(folder, sha256, here, wait_s=600)
    until_train_is_asked_for(killed)
    waiting = [fetch(folder, sha256, here, wait_s=0.1) for _ in range(2)]
    leftover = [path.name for path in (here / "data").iterdir() if path.is_dir()]
    assert len(leftover) == 1
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    lines = [process.communicate(timeout=60)[0].splitlines() for process in waiting]
    assert sorted(len(each) for each in lines) == [1, 5], "one brought four files, one found them"
    final = delivered_folder(sha256, here)
    assert {each[-1] for each in lines} == {str(final)}
    assert [path.name for path in final.parent.iterdir() if path.is_dir()] == [final.name]
    assert contents(final) == contents(folder)
    killed.stdout.close()  # type: ignore[union-attr]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize("known_before", [True, False])
def test_a_full_disk_is_a_failure_of_the_machine_that_names_host_and_folder(
    tmp_path: Path, small_disk: Path, known_before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = write_data(tmp_path / "driver", train=100_000, validation=40)
    if not known_before:  # somebody else fills it meanwhile
        monkeypatch.setattr("harness.data.delivered._require_room", lambda *_: None)
    with pytest.raises(Undelivered) as error:
        obtain(sha256, chunks=Source(tmp_path / "driver", 4096), cache_dir=small_disk)
    reason = "GB are free" if known_before else "No space left"
    for part in (reason, os.uname().nodename, str(small_disk / "data"), "OPTBENCH_CACHE"):
        assert part in str(error.value)
    assert isinstance(error.value, OSError), "an attempt that the machine ended, no outcome"
    assert not any(path.is_dir() for path in (small_disk / "data").iterdir())


def test_a_relative_cache_is_an_absolute_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPTBENCH_CACHE", "relative")
    assert default_cache_dir() == tmp_path / "relative"
