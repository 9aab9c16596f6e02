"""Whoever follows the how-to pages gets a working optimizer, model and data source."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("harness", "models", "optimizers", "tune")

OPTIMIZER = "docs/how-to/add-an-optimizer.md"
MODEL = "docs/how-to/add-a-model.md"
SOURCE = "docs/how-to/add-a-data-source.md"

Newcomer = Callable[..., None]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, with the test that runs over the registry of optimizers."""
    copy = tmp_path_factory.mktemp("project")
    for package in PACKAGES:
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, copy / package, ignore=skip)
    (copy / "studies").mkdir()
    shutil.copy(ROOT / "tests" / "optimizers" / "test_registry.py", copy)
    return copy


@pytest.fixture
def follow(project: Path, blocks_of: Any, named_file: Any) -> Newcomer:
    """Writes a page's file, its one registry line and its study into the copy."""

    def write(page: str, *, file: str, registry: str, study: str) -> None:
        blocks = blocks_of(page)
        (project / file).write_text(named_file(blocks, file))
        (project / study).write_text(named_file(blocks, study))
        first, *inside, last = named_file(blocks, registry).splitlines()
        (line,) = [line for line in inside if line.strip() != "..."]
        text = (project / registry).read_text()
        table = re.search(rf"^{re.escape(first)}\n.*?^{re.escape(last)}\n", text, re.M | re.S)
        assert table, f"{registry} has no table that begins with {first!r}"
        grown = table[0].removesuffix(f"{last}\n") + f"{line}\n{last}\n"
        (project / registry).write_text(text.replace(table[0], grown))

    return write


@pytest.fixture
def run(project: Path) -> Callable[..., str]:
    """Runs Python in the copy, which comes before the installed project."""

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=project,
            env=os.environ | {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    return python


SMALL = (
    *("--set", "data.max_documents=60", "--set", "data.vocab_size=320"),
    *("--set", "training.steps=2", "--set", "training.evaluation_windows=4"),
)


# Two commands of the page in one process: starting torch takes longer than both.
TEST_AND_TRY = """
import sys, pytest
code = pytest.main(["-q", "-p", "no:cacheprovider", "-k", "tiger", "test_registry.py"])
assert code == 0, code
from harness.cli.main import main
sys.argv = ["optbench", *sys.argv[1:]]
main()
"""


EXTERNAL = 'kind = "external", path = "tiger:Tiger"'


def test_an_optimizer_is_one_file_and_one_line(
    follow: Newcomer, run: Callable[..., str], project: Path
) -> None:
    follow(
        OPTIMIZER,
        file="optimizers/tiger.py",
        registry="optimizers/registry.py",
        study="studies/tiger.toml",
    )
    study = project / "studies" / "tiger.toml"
    text = study.read_text()
    assert EXTERNAL in text
    study.write_text(text.replace(EXTERNAL, 'kind = "tiger"'))
    said = run("-c", TEST_AND_TRY, "trial", "studies/tiger.toml", "--variant", "tiger", *SMALL)
    assert "3 passed" in said
    assert "step      2/2" in said
    assert "completed" in said


@pytest.fixture
def own_folder(tmp_path: Path, blocks_of: Any, named_file: Any) -> Path:
    """What the page has somebody write beside the installed project."""
    blocks = blocks_of(OPTIMIZER)
    for name in ("tiger.py", "test_tiger.py", "studies/tiger.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(named_file(blocks, name))
    text = (tmp_path / "tiger.py").read_text()
    broken = text.replace("torch._foreach_sign(momenta)", "[m / m.norm() for m in momenta]")
    assert broken != text
    (tmp_path / "broken.py").write_text(broken)
    return tmp_path


def run_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_an_optimizer_of_ones_own_trains(own_folder: Path) -> None:
    """The first command that takes a file of the reader's, from a folder beside the project."""
    done = run_in(
        own_folder, "-m", "harness", "trial", "studies/tiger.toml", "--variant", "tiger", *SMALL
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "completed" in done.stdout


@pytest.mark.faults
def test_verifying_ones_own_prints_what_the_page_shows(own_folder: Path, blocks_of: Any) -> None:
    shown = [b.text for b in blocks_of(OPTIMIZER) if "conform" in b.text and b.language == "text"]
    ways = (
        ("tiger:Tiger", "--workers", "1"),
        (
            *("broken:Tiger", "--workers", "1"),
            *("--check", "zero_gradients", "--check", "learning_rate"),
        ),
    )
    for text, arguments, code in zip(shown, ways, (0, 1), strict=True):
        done = run_in(own_folder, "-m", "harness", "verify-optimizer", *arguments)
        assert done.returncode == code, done.stderr[-3000:]
        # Figures are rounding, and another processor's rounding is another.
        assert words(done.stdout) == words(text)
    tested = run_in(own_folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_tiger.py")
    assert tested.returncode == 0, tested.stdout[-3000:]


def words(text: str) -> list[str]:
    return [word for word in text.split() if not re.fullmatch(r"\(?-?\d[\d.e+-]*\)?", word)]


def test_a_model_and_a_data_source_are_one_file_and_one_line_each(
    follow: Newcomer, run: Callable[..., str], project: Path, blocks_of: Any
) -> None:
    follow(
        MODEL,
        file="models/look_back.py",
        registry="models/registry.py",
        study="studies/look-back.toml",
    )
    follow(
        SOURCE,
        file="harness/data/sqlite.py",
        registry="harness/data/registry.py",
        study="studies/notes.toml",
    )
    (script,) = [b.text for b in blocks_of(SOURCE) if "make_notes.py" in b.before[-60:]]
    (project / "make_notes.py").write_text(script)
    run("make_notes.py")
    # The new model reads the new source: one start of Python instead of two.
    data = re.search(r"\[data\].*?\n\n", (project / "studies/notes.toml").read_text(), re.S)
    assert data
    study = project / "studies" / "look-back.toml"
    study.write_text(re.sub(r"\[data\].*?\n\n", lambda _: data[0], study.read_text(), flags=re.S))
    said = run("-m", "harness", "trial", str(study), "--variant", "muon", *SMALL)
    assert "step      2/2" in said
    assert "completed" in said
