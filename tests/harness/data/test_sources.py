import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

from harness.data import DataConfig, prepare, stdlib
from harness.data.sources import Source, open_source
from harness.errors import UserError

Config = Callable[..., DataConfig]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _read(**settings: object) -> list[str]:
    return list(open_source(DataConfig.model_validate(settings)).documents())


def test_the_standard_library_is_megabytes_of_text_in_a_fixed_order() -> None:
    source = open_source(DataConfig())
    texts = list(source.documents())
    assert sum(map(len, texts)) > 5_000_000
    assert texts == list(source.documents())
    assert source.fingerprint == open_source(DataConfig()).fingerprint
    assert any("class OrderedDict(dict)" in text for text in texts)


def test_the_standard_library_is_sorted_however_the_disk_lists_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = open_source(DataConfig(max_documents=5))
    walk = stdlib._walk
    monkeypatch.setattr(stdlib, "_walk", lambda root: reversed(list(walk(root))))
    assert open_source(DataConfig(max_documents=5)).fingerprint == before.fingerprint


def test_the_standard_library_includes_the_chapters_of_the_reference() -> None:
    assert any(text.startswith('The "assert" statement') for text in _read())


def _write(folder: Path, name: str, texts: list[str]) -> None:
    path = folder / name
    if path.suffix == ".txt":
        path.write_text("\n\n".join(texts))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": t, "other": 1}) + "\n" for t in texts))
    else:
        pq.write_table(pa.table({"text": texts, "other": [1] * len(texts)}), path)


def test_files_of_every_kind_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    _write(tmp_path, "c.parquet", ["six", "seven"])
    _write(tmp_path, "a.txt", ["one"])
    _write(tmp_path, "b.jsonl", ["three", "four", "five"])
    _write(tmp_path, "a2.txt", ["two"])
    _write(tmp_path, "d.txt", ["eight"])
    expected = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    assert _read(source="files", files=[f"{tmp_path}/*"]) == expected
    patterns = [f"{tmp_path}/[c-d].*", f"{tmp_path}/a*.txt", f"{tmp_path}/?.jsonl"]
    assert _read(source="files", files=patterns) == expected


def test_a_file_matched_twice_is_read_once(tmp_path: Path) -> None:
    _write(tmp_path, "a.txt", ["one"])
    assert _read(source="files", files=[f"{tmp_path}/*.txt", f"{tmp_path}/**"]) == ["one"]


def test_a_name_with_brackets_is_a_name(tmp_path: Path) -> None:
    _write(tmp_path, "part [1].jsonl", ["one"])
    _write(tmp_path, "part 1.jsonl", ["two"])
    assert _read(source="files", files=[f"{tmp_path}/*"]) == ["two", "one"]


def test_paths_are_relative_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, "a.txt", ["one"])
    monkeypatch.chdir(tmp_path)
    assert _read(source="files", files=["*.txt"]) == ["one"]


@pytest.mark.parametrize(
    ("sample_by", "expected"),
    [
        ("document", ["one\n\ntwo\nlines"]),
        ("paragraph", ["one", "two\nlines"]),
        ("line", ["one", "", "two", "lines"]),
    ],
)
def test_a_text_file_is_a_document_or_is_cut(
    sample_by: str, expected: list[str], tmp_path: Path
) -> None:
    _write(tmp_path, "a.txt", ["one", "two\nlines"])
    assert _read(source="files", files=[f"{tmp_path}/a.txt"], sample_by=sample_by) == expected


def test_a_row_without_text_is_an_empty_document(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n{"text": null}\n{"text": "two"}\n')
    assert _read(source="files", files=[str(path)]) == ["one", "", "two"]


@pytest.mark.parametrize(
    ("name", "content", "settings", "message"),
    [
        ("a.jsonl", b'{"content": "x"}\n', {}, r"text_column 'text' is not in .* has content"),
        ("a.jsonl", b'{"text": 1}\n', {}, r"row 0 in .* holds int, not text"),
        ("a.jsonl", b"this is no json\n", {}, r"cannot read .*a.jsonl"),
        ("a.parquet", b"this is no parquet", {}, r"cannot read .*a.parquet"),
        ("a.txt", b"\xff\xfe\xfa", {}, r"cannot read .*a.txt .*UnicodeDecodeError"),
        ("a.csv", b"text\n1\n", {}, r"files matches .csv: allowed are .txt"),
        ("a.jsonl", b"{}", {"files": ["missing*.jsonl"]}, r"'missing\*.jsonl' matches no file"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_error(
    name: str, content: bytes, settings: dict[str, object], message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        _read(**{"source": "files", "files": [f"{tmp_path}/{name}"], **settings})


def test_files_become_windows(corpus_file: Path, tmp_path: Path, small_config: Config) -> None:
    config = small_config(source="files", files=(str(corpus_file),))
    manifest = prepare(config, cache_dir=tmp_path).manifest
    assert manifest.train.documents + manifest.validation.documents == 60


def test_a_dataset_of_the_hub_is_streamed_in_order(
    tmp_path: Path, make_texts: Callable[..., list[str]]
) -> None:
    """The repository of a dataset, cloned: the hub's code path but for the network."""
    texts = make_texts(40)
    folder = tmp_path / "dataset" / "stories"
    folder.mkdir(parents=True)
    _write(folder, "train-00000.parquet", texts[:20])
    _write(folder, "train-00001.parquet", texts[20:])
    _write(folder, "test-00000.parquet", ["another split"])
    readme = "---\nconfigs:\n- config_name: stories\n  data_files:\n"
    readme += "".join(
        f"  - split: {s}\n    path: stories/{s}-*.parquet\n" for s in ("train", "test")
    )
    (tmp_path / "dataset" / "README.md").write_text(readme + "---\n")
    settings = {
        "source": "hub",
        "dataset": str(tmp_path / "dataset"),
        "subset": "stories",
        "revision": COMMIT,
        "max_documents": 30,
        "vocab_size": 300,
        "sequence_length": 8,
        "validation_fraction": 0.3,
    }
    assert _read(**settings) == texts
    assert _read(**settings, split="test") == ["another split"]
    manifest = prepare(DataConfig.model_validate(settings), cache_dir=tmp_path).manifest
    assert manifest.revision == COMMIT
    assert manifest.train.documents + manifest.validation.documents == 30
    with pytest.raises(UserError, match=r"cannot read .* revision .*source = 'stdlib'"):
        _read(**{**settings, "subset": "poems"})


def test_a_hub_that_cannot_be_reached_is_one_clear_error(tmp_path: Path) -> None:
    script = """
from harness.data import DataConfig, prepare
from harness.errors import UserError
try:
    prepare(DataConfig(preset="cosmopedia-v2", max_tokens=1000))
except UserError as error:
    print(error)
"""
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "OPTBENCH_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "cannot read HuggingFaceTB/smollm-corpus" in done.stdout
    assert "source = 'stdlib'" in done.stdout
    assert [path.name for path in (tmp_path / "data").iterdir() if path.is_dir()] == []


def test_options_are_for_sources_that_were_added() -> None:
    with pytest.raises(ValueError, match="options is set but source 'stdlib' has none"):
        DataConfig(options={"seed": 1})


def test_a_source_that_was_added_checks_its_own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    class Options(BaseModel):
        lines: int

    def open_counting(config: DataConfig) -> Source:
        options = Options.model_validate(config.options)
        texts = [str(number) for number in range(options.lines)]
        return Source(name="numbers", revision="1", fingerprint="", documents=lambda: iter(texts))

    monkeypatch.setattr(stdlib, "open_source", open_counting)
    numbers = DataConfig.model_construct(source="stdlib", options={"lines": 3})
    assert list(open_source(numbers).documents()) == ["0", "1", "2"]
    wrong = DataConfig.model_construct(source="stdlib", options={"lines": "many"})
    with pytest.raises(UserError, match=r"data.options.lines: .* \(got 'many'\)"):
        open_source(wrong)


def test_no_options_change_no_hash() -> None:
    assert "options" not in DataConfig().model_dump(mode="json")
