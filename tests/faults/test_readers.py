"""Whatever becomes of a file of a study: the same result, or one error that says what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import MadeUpSearch, MadeUpStudy

from harness.analysis.from_csv import read_results
from harness.analysis.results import read_analysis
from harness.analysis.study_analysis import analyse_study
from harness.analysis.study_results import load_results
from harness.cli.main import main
from harness.data import TokenDataset, open_dataset, prepare
from harness.data.config import DataConfig
from harness.errors import UserError
from harness.report.results_csv import results_csv, write_results_csv
from harness.runs.files import write_json
from harness.runs.folder import StudyFolder
from harness.runs.plan_changes import Addition
from harness.runs.plan_file import load_plan
from harness.runs.snapshot import load_snapshot
from harness.study.additions import Additions
from harness.study.load import load_study
from harness.study.trial import canonical_sha256

FUZZ = settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A small finished study with every file that one can have."""
    made = MadeUpStudy(seeds=(0, 1, 2), every=60)
    folder = made.write(tmp_path_factory.mktemp("runs"))
    addition = Addition(
        when="2026-11-27T00:00:00+00:00",
        from_sha256="0" * 64,
        to_sha256="1" * 64,
        added=Additions(seeds=(2,)),
        comparisons=1,
        outcomes=4,
        measured=4,
    )
    write_json(folder.additions_path, [addition.model_dump(mode="json")])
    analyse_study(folder)
    return folder


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    made = MadeUpSearch(seeds=(0, 1, 2), every=60, tuning={"trials": 2}, tuning_seeds=(100,))
    return made.write(tmp_path_factory.mktemp("runs"))


def files_of(folder: StudyFolder) -> list[Path]:
    return sorted(p for p in folder.path.rglob("*.json*") if p.is_file())


def everything(folder: StudyFolder) -> dict[str, Any]:
    """All that is read from the folder of a study."""
    snapshot = load_snapshot(folder)
    return {
        "table": results_csv(snapshot.trials),
        "reports": [trial.reports for trial in snapshot.trials],
        "plan": snapshot.plan,
        "analysis": read_analysis(folder.analysis_path),
        "attempts": [folder.trial(trial.key).attempts() for trial in snapshot.trials],
        "specs": [trial.spec for trial in snapshot.trials],
        "context": (snapshot.environment, snapshot.data),
        "amendments": snapshot.amendments,
        "additions": snapshot.additions,
        "search": snapshot.search_events,
    }


SEALED = ("plan", "table", "reports")
"""What a hash vouches for: not one digit may differ. Other files may hold another valid value, and
what a search suggested stands in tuning.jsonl without a hash."""


@contextmanager
def damaged(path: Path, content: bytes) -> Iterator[None]:
    """Puts the content in the file, and the old one back; nothing else may have changed."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
        assert path.read_bytes() == content, "a reader wrote"
    finally:
        path.write_bytes(before)


def stamps(folder: StudyFolder) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in files_of(folder)}


def tried(read: Callable[[], Any]) -> tuple[Any, str | None]:
    """What was read, or why it was refused; any other exception is a bug."""
    try:
        return read(), None
    except UserError as error:
        return None, str(error)


def same_or_refused(folder: StudyFolder, path: Path, before: dict[str, Any]) -> None:
    after, refusal = tried(lambda: everything(folder))
    if refusal is not None:
        assert str(path) in refusal
        assert len(refusal.splitlines()) == 1
        assert "pydantic" not in refusal
        return
    for name in SEALED if path.name != "tuning.jsonl" else ():
        assert after[name] == before[name], f"{name} differ in silence"


def flipped(content: bytes, at: int, mask: int) -> bytes:
    return content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]


@given(data=st.data())
@FUZZ
def test_a_flipped_byte_or_a_cut_file_is_refused_or_changes_nothing(
    folder: StudyFolder, data: st.DataObject
) -> None:
    _fuzz(folder, data)


@given(data=st.data())
@settings(FUZZ, max_examples=100)
def test_so_it_is_with_a_search(searched: StudyFolder, data: st.DataObject) -> None:
    _fuzz(searched, data)


UNDAMAGED: dict[Path, dict[str, Any]] = {}


def _fuzz(folder: StudyFolder, data: st.DataObject) -> None:
    if folder.path not in UNDAMAGED:
        UNDAMAGED[folder.path] = everything(folder)
    path = data.draw(st.sampled_from(files_of(folder)), label="file")
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1), label="byte")
    damage = data.draw(st.sampled_from(["flip", "cut", "replace", "insert"]))
    if damage == "flip":
        content = flipped(content, at, data.draw(st.integers(1, 255), label="mask"))
    elif damage == "cut":
        content = content[:at]
    elif damage == "replace":
        content = data.draw(st.binary(max_size=200) | st.sampled_from([b"null", b"[]\n", b"{}\n"]))
    else:
        content = content[:at] + data.draw(st.binary(min_size=1, max_size=8)) + content[at:]
    with damaged(path, content):
        same_or_refused(folder, path, UNDAMAGED[folder.path])


@pytest.mark.parametrize("name", ["outcome.json", "reports.jsonl"])
def test_files_swapped_between_two_trials_are_refused(folder: StudyFolder, name: str) -> None:
    first, second = (folder.trial(row.key).path / name for row in load_plan(folder).trials[:2])
    one, other = first.read_bytes(), second.read_bytes()
    with damaged(first, other), damaged(second, one), pytest.raises(UserError) as error:
        load_snapshot(folder)
    assert str(first) in str(error.value)
    assert "trained again" in str(error.value)


@pytest.mark.parametrize("damage", ["folder", "link to nothing"])
def test_a_folder_or_a_broken_link_in_place_of_any_file_is_refused(
    folder: StudyFolder, tmp_path: Path, damage: str
) -> None:
    for path in files_of(folder):
        aside = path.rename(tmp_path / "aside")
        if damage == "folder":
            path.mkdir()
        else:
            path.symlink_to(tmp_path / "nothing")
        try:
            with pytest.raises(UserError, match="cannot be used"):
                everything(folder)
        finally:
            path.rmdir() if damage == "folder" else path.unlink()
            aside.rename(path)


def test_reading_changes_nothing(folder: StudyFolder) -> None:
    before = stamps(folder)
    everything(folder)
    assert stamps(folder) == before


def test_a_damaged_line_in_the_middle_is_named(folder: StudyFolder) -> None:
    path = folder.trial(load_plan(folder).trials[0].key).attempts_path
    first, second = path.read_bytes().splitlines(keepends=True)
    message = pytest.raises(UserError, match=r"line 2: .*attempt: Field required, and 2 more")
    with damaged(path, first + b'{"event": "ended"}\n' + second), message:
        everything(folder)


@pytest.mark.parametrize("key", ["../../etc", "0123456789ABCDEF", "", "0" * 17, "0" * 15 + "\n"])
def test_a_plan_that_names_another_folder_is_refused(folder: StudyFolder, key: str) -> None:
    values = json.loads(folder.plan_path.read_text())
    values["trials"][0]["key"] = key
    values.pop("plan_sha256")
    values["plan_sha256"] = canonical_sha256(values)
    message = pytest.raises(UserError, match=r"trials\.0\.key")
    with damaged(folder.plan_path, json.dumps(values).encode()), message:
        load_plan(folder)


def test_an_outcome_of_an_older_version_has_no_seal_and_is_read(folder: StudyFolder) -> None:
    trial = folder.trial(load_plan(folder).trials[0].key)
    before, values = trial.results(), json.loads(trial.outcome_path.read_text())
    for name in ("trial_key", "reports_sha256", "outcome_sha256"):
        values.pop(name)
    with damaged(trial.outcome_path, json.dumps(values).encode()):
        assert trial.results() == before


def test_results_are_read_while_a_retry_begins(
    folder: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = StudyFolder(shutil.copytree(folder.path, tmp_path / "copy"))
    trial = copy.trial(load_plan(copy).trials[0].key)
    spec, reports = trial.spec(), type(trial).reports
    assert spec is not None

    def retried(self: Any) -> Any:
        trial.start(spec)
        return reports(self)

    monkeypatch.setattr(type(trial), "reports", retried)
    assert trial.results() == ([], None)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> TokenDataset:
    config = DataConfig(source="stdlib", max_documents=30, vocab_size=300, sequence_length=16)
    return prepare(config, cache_dir=tmp_path_factory.mktemp("tokens"))


@given(data=st.data())
@settings(FUZZ, max_examples=100)
def test_a_damaged_file_of_the_data_cache_is_refused(
    dataset: TokenDataset, data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(sorted(p for p in dataset.path.iterdir() if p.is_file())))
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    mask = data.draw(st.integers(0, 255))
    with damaged(path, flipped(content, at, mask) if mask else content[:at]):
        sha256, refusal = tried(lambda: verified(dataset.path))
    assert sha256 == dataset.manifest.sha256 if refusal is None else str(dataset.path) in refusal


def verified(path: Path) -> str:
    opened = open_dataset(path)
    opened.verify()
    return opened.manifest.sha256


def test_a_run_on_damaged_tokens_is_refused_before_anything_starts(
    study_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OPTBENCH_CACHE", str(tmp_path / "cache"))
    tokens = prepare(load_study(study_file).data).path / "train.bin"
    arguments = ["optbench", "run", str(study_file), "--runs-dir", str(tmp_path / "runs")]
    monkeypatch.setattr("sys.argv", arguments)
    with damaged(tokens, flipped(tokens.read_bytes(), 100, 1)), pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "train.bin has SHA-256" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json", "train.bin", "validation.bin"])
def test_a_folder_in_place_of_a_file_of_the_data_cache_is_refused(
    dataset: TokenDataset, tmp_path: Path, name: str
) -> None:
    path = dataset.path / name
    aside = path.rename(tmp_path / "aside")
    path.mkdir()
    try:
        with pytest.raises(UserError, match=name):
            open_dataset(dataset.path).verify()
    finally:
        path.rmdir()
        aside.rename(path)


@given(data=st.data())
@settings(FUZZ, max_examples=100)
def test_a_damaged_table_of_results_is_read_or_refused(
    folder: StudyFolder, data: st.DataObject
) -> None:
    write_results_csv(load_results(folder))
    path = folder.report_folder / "results.csv"
    content = path.read_bytes()
    at, mask = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 255))
    with damaged(path, flipped(content, at, mask) if mask else data.draw(st.binary(max_size=99))):
        _, refusal = tried(lambda: read_results(path))
    assert refusal is None or str(path) in refusal


@given(content=st.binary(max_size=80) | st.integers(1, 3000).map(lambda n: b"a=" + b"[" * n))
@settings(FUZZ, max_examples=60)
def test_a_study_file_of_any_bytes_is_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"any\.toml"):
        load_study(path)
