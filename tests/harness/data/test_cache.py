import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.data import DataConfig, TokenDataset, default_cache_dir, open_dataset, prepare
from harness.data.dataset import MANIFEST_FILE, TRAIN_FILE
from harness.errors import UserError

Config = Callable[..., DataConfig]

# Twelve files of the standard library: a fast build that needs no `datasets`.
SETTINGS = {
    "max_documents": 12,
    "vocab_size": 300,
    "sequence_length": 32,
    "validation_fraction": 0.5,
}

_BUILD = """
import sys
from pathlib import Path
from harness.data import DataConfig, prepare
config = DataConfig.model_validate_json(sys.argv[1])
dataset = prepare(config, cache_dir=Path(sys.argv[2]), progress=print)
print(dataset.path, dataset.manifest.sha256)
"""


@pytest.fixture(scope="module")
def config() -> DataConfig:
    return DataConfig.model_validate(SETTINGS)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, config: DataConfig) -> TokenDataset:
    return prepare(config, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def copied(built: TokenDataset, tmp_path: Path) -> Path:
    """The built folder, to be damaged."""
    return Path(shutil.copytree(built.path, tmp_path / "copy"))


def _python(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ.copy()
    )


def test_two_processes_at_once_build_one_cache(
    tmp_path: Path, config: DataConfig, built: TokenDataset
) -> None:
    processes = [_python(_BUILD, config.model_dump_json(), tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    lines = [stdout.splitlines() for stdout, _ in outputs]
    assert lines[0][-1] == lines[1][-1]
    assert sum("training a byte-level BPE" in line for line in lines[0] + lines[1]) == 1
    folders = [path for path in (tmp_path / "data").iterdir() if path.is_dir()]
    assert len(folders) == 1
    for file in built.path.iterdir():  # and another process, another folder: the same bytes
        assert (folders[0] / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("phase", ["training", "tokenising", "counting"])
def test_a_killed_build_leaves_nothing_that_looks_complete(
    phase: str, tmp_path: Path, config: DataConfig, built: TokenDataset
) -> None:
    killed_in = f"lambda line: line.startswith({phase!r}) and os.kill(os.getpid(), signal.SIGKILL)"
    script = "import os, signal\n" + _BUILD.replace("progress=print", f"progress={killed_in}")
    process = _python(script, config.model_dump_json(), tmp_path)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert list(tmp_path.rglob(MANIFEST_FILE)) == []
    assert any(path.is_dir() for path in (tmp_path / "data").iterdir())  # what was half done

    dataset = prepare(config, cache_dir=tmp_path)
    assert dataset.manifest == built.manifest
    assert [path for path in (tmp_path / "data").iterdir() if path.is_dir()] == [dataset.path]


def test_a_failed_build_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too little text"):
        prepare(DataConfig(max_documents=2, vocab_size=300), cache_dir=tmp_path)
    assert [path for path in (tmp_path / "data").iterdir() if path.is_dir()] == []


def test_a_cached_dataset_is_opened_without_the_heavy_libraries(
    built: TokenDataset, config: DataConfig
) -> None:
    script = _BUILD + "print(sorted({'datasets', 'tokenizers', 'transformers', 'torch', 'pyarrow',"
    script += " 'rich', 'filelock'} & set(sys.modules)))"
    process = _python(script, config.model_dump_json(), built.path.parent.parent)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert stdout.splitlines() == [f"{built.path} {built.manifest.sha256}", "[]"]


def test_a_cached_folder_is_never_written_to(built: TokenDataset, config: DataConfig) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {f.name: (f.stat().st_ino, f.stat().st_mtime_ns) for f in built.path.iterdir()}

    before = state()
    again = prepare(config, cache_dir=built.path.parent.parent)
    assert again == built
    assert state() == before


def test_a_folder_is_opened_by_its_path(built: TokenDataset) -> None:
    assert open_dataset(str(built.path)).manifest == built.manifest


def test_every_setting_that_changes_the_files_has_its_own_folder(tmp_path: Path) -> None:
    paths = {
        prepare(DataConfig.model_validate({**SETTINGS, **change}), cache_dir=tmp_path).path
        for change in ({}, {"sequence_length": 33}, {"vocab_size": 301}, {"max_documents": 11})
    }
    assert len(paths) == 4


def test_a_file_that_changed_is_read_again(
    corpus_file: Path, tmp_path: Path, small_config: Config
) -> None:
    config = small_config(source="files", files=(str(corpus_file),))
    first = prepare(config, cache_dir=tmp_path)
    corpus_file.write_text(corpus_file.read_text() + '{"text": "one more document"}\n')
    second = prepare(config, cache_dir=tmp_path)
    assert first.path != second.path
    assert first.manifest.documents_sha256 != second.manifest.documents_sha256
    first.verify()


def test_a_pretrained_tokenizer_that_changed_is_read_again(
    built: TokenDataset, tmp_path: Path, config: DataConfig
) -> None:
    path = tmp_path / "tokenizer.json"
    shutil.copy(built.path / "tokenizer.json", path)
    pretrained = config.model_copy(update={"tokenizer": str(path)})
    first = prepare(pretrained, cache_dir=tmp_path)
    assert first.manifest.train.sha256 == built.manifest.train.sha256
    path.write_text(path.read_text() + "\n")
    assert prepare(pretrained, cache_dir=tmp_path).path != first.path


def test_the_cache_folder_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPTBENCH_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("OPTBENCH_CACHE")
    assert default_cache_dir().name == "optbench"


def test_a_cache_folder_that_cannot_be_written_is_one_clear_error(
    tmp_path: Path, config: DataConfig
) -> None:
    blocked = tmp_path / "a file"
    blocked.touch()
    with pytest.raises(UserError, match=r"cannot build the data in .* set OPTBENCH_CACHE"):
        prepare(config, cache_dir=blocked)


def test_a_folder_that_is_no_data_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no data folder"):
        open_dataset(tmp_path)


def test_a_truncated_token_file_is_refused(copied: Path) -> None:
    with open(copied / TRAIN_FILE, "r+b") as file:
        file.truncate(100)
    with pytest.raises(UserError, match=r"train.bin has 100 bytes"):
        open_dataset(copied)


def test_a_manifest_of_another_version_is_refused(copied: Path) -> None:
    path = copied / MANIFEST_FILE
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 999'))
    with pytest.raises(UserError, match="another version"):
        open_dataset(copied)


def test_one_flipped_bit_is_found(copied: Path) -> None:
    content = bytearray((copied / TRAIN_FILE).read_bytes())
    content[1000] ^= 1
    (copied / TRAIN_FILE).write_bytes(content)
    with pytest.raises(UserError, match=r"train.bin has SHA-256"):
        open_dataset(copied).verify()


def test_leaked_windows_change_no_folder(built: TokenDataset, config: DataConfig) -> None:
    asked = config.model_copy(update={"leaked_windows": 16})
    again = prepare(asked, cache_dir=built.path.parents[1])
    assert again.path == built.path
    assert again.manifest.config.leaked_windows == 0
