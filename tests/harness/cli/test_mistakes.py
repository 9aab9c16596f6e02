"""Bad input: one clear error, exit code 2, nothing started, nothing overwritten."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.cli.main import main


@pytest.fixture
def optbench(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command in this process: `(exit code, standard output, standard error)`."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["optbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return call


Edit = Callable[..., Path]
Optbench = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("replacements", "message"),
    [
        ([("steps = 6", "stepps = 6")], "did you mean `steps`?"),
        ([("steps = 6", 'steps = "six"')], "training.steps"),
        ([("num_heads = 2", "num_heads = 3")], "num_heads"),
        ([("num_layers = 2", "num_layers = 2\nexperts_per_token = 9")], "experts_per_token"),
        ([("workers = 1", "workers = 512"), ("batch_size = 8", "batch_size = 512")], "machine has"),
        ([('name = "muon"', 'name = "adamw"')], "more than once"),
        ([("[0, 1, 2]", "[0, 1, 2]\ntuning = [1]")], "must not measure"),
        ([('source = "stdlib"', 'source = "files"')], "files"),
    ],
)
def test_a_mistake_in_the_study_exits_with_2_and_leaves_no_folder(
    optbench: Optbench,
    edited_study: Edit,
    tmp_path: Path,
    replacements: Sequence[tuple[str, str]],
    message: str,
) -> None:
    study = edited_study(*replacements)
    code, _, errors = optbench("run", study, "--runs-dir", tmp_path / "runs")
    assert code == 2
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "runs").exists()


def test_a_missing_corpus_exits_with_2(
    optbench: Optbench, edited_study: Edit, tmp_path: Path
) -> None:
    files = f'source = "files"\nfiles = ["{tmp_path}/none/*.txt"]'
    study = edited_study(('source = "stdlib"\nmax_documents = 60', files))
    code, _, errors = optbench("data", study)
    assert (code, "none" in errors) == (2, True)


@pytest.mark.parametrize("text", ["", "too little"])
def test_an_empty_or_tiny_corpus_exits_with_2(
    optbench: Optbench, edited_study: Edit, tmp_path: Path, text: str
) -> None:
    (tmp_path / "small.txt").write_text(text)
    files = f'source = "files"\nfiles = ["{tmp_path}/small.txt"]'
    study = edited_study(('source = "stdlib"\nmax_documents = 60', files))
    code, _, errors = optbench("run", study, "--runs-dir", tmp_path / "runs")
    assert code == 2
    assert "Traceback" not in errors
    assert not (tmp_path / "runs").exists()


def test_an_unknown_variant_of_a_trial_names_the_known_ones(
    optbench: Optbench, study_file: Path
) -> None:
    code, _, errors = optbench("trial", study_file, "--variant", "sgd")
    assert (code, "['adamw', 'muon']" in errors) == (2, True)


def test_a_table_with_holes_exits_with_2_and_names_them(optbench: Optbench, tmp_path: Path) -> None:
    table = tmp_path / "results.csv"
    table.write_text("variant,seed,value\na,0,1\na,1,2\na,2,\nb,0,1\nb,1,x\n")
    code, _, errors = optbench("compare", table, "--baseline", "a")
    assert code == 2
    assert "line 4" in errors
    assert "line 6" in errors


def test_status_and_report_of_an_unknown_study_exit_with_2(
    optbench: Optbench, tmp_path: Path
) -> None:
    for command in ("status", "report"):
        code, _, errors = optbench(command, "nothing", "--runs-dir", tmp_path)
        assert (code, "optbench run" in errors) == (2, True)


def test_a_study_that_is_already_running_is_refused(
    optbench: Optbench, study_file: Path, tmp_path: Path
) -> None:
    from harness.runs.folder import StudyFolder

    with StudyFolder(tmp_path / "runs" / "tiny").locked():
        code, _, errors = optbench("run", study_file, "--runs-dir", tmp_path / "runs")
    assert (code, "in use by another" in errors) == (2, True)
    assert os.listdir(tmp_path / "runs" / "tiny") == [".lock"]


def test_storage_that_cannot_be_written_exits_with_2_before_ray_and_is_no_part_of_the_plan(
    optbench: Optbench, study_file: Path, tmp_path: Path
) -> None:
    runs, what = tmp_path / "runs", "what://bucket"
    code, _, errors = optbench("run", study_file, "--runs-dir", runs, "--storage", "")
    assert (code, "checkpoints.storage" in errors, runs.exists()) == (2, True, False)
    code, _, errors = optbench("run", study_file, "--runs-dir", runs, "--storage", what)
    assert (code, f"kept at {what}: " in errors, "Traceback" in errors) == (2, True, False)
    assert not list(runs.glob("*/trials"))
    code, _, errors = optbench("plan", study_file, "--runs-dir", runs)
    assert code == 0, "the frozen plan is the same without it"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give RESULTS.CSV, or training logs"),
        (["t.csv", "--steps", "9"], "need --from-logs"),
        (["t.csv", "--from-logs", "a=*.txt", "--format", "nanogpt"], "not both"),
        (["--from-logs", "a=*.txt"], "needs --format or --pattern, got neither"),
        (["--from-logs", "a=*.txt", "--format", "nanogpt", "--table", "1.txt"], "one of the logs"),
        (["--from-logs", "a=*.txt", "--format", "nanogpt", "--table", "no/t.csv"], "cannot write"),
        (
            ["--from-logs", "a=*.txt", "--format", "nanogpt", "--table", "t", "--curves", "./t"],
            "are both t",
        ),
    ],
)
def test_a_mistake_about_logs_exits_with_2_and_leaves_them_as_they_are(
    optbench: Optbench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: Sequence[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    log = "step 1: train loss 3.0, val loss 3.1\n"
    Path("1.txt").write_text(log)
    code, _, errors = optbench("compare", *arguments)
    assert code == 2
    assert message in errors
    assert Path("1.txt").read_text() == log


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are UTF-8")
def test_the_name_of_a_log_need_not_be_utf_8(
    optbench: Optbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for variant in "ab":
        for seed in range(3):
            name = os.fsdecode(f"{variant}{seed}".encode() + b"\xe9.txt")
            Path(name).write_text(f"step 1: train loss 3, val loss {ord(variant)}.{seed}\n")
    logs = ["--from-logs", "a=a*", "--from-logs", "b=b*", "--format", "nanogpt"]
    code, _, errors = optbench("compare", *logs, "--baseline", "a", "--table", "t.csv")
    assert code == 0, errors
    assert "a0\\udce9.txt" in Path("t.csv").read_text()
