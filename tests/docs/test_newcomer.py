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
code = pytest.main(["-q", "-p", "no:cacheprovider", "-k", "lion", "test_registry.py"])
assert code == 0, code
from harness.cli.main import main
sys.argv = ["optbench", *sys.argv[1:]]
main()
"""


def test_an_optimizer_is_one_file_and_one_line(follow: Newcomer, run: Callable[..., str]) -> None:
    follow(
        OPTIMIZER,
        file="optimizers/lion.py",
        registry="optimizers/registry.py",
        study="studies/lion.toml",
    )
    said = run("-c", TEST_AND_TRY, "trial", "studies/lion.toml", "--variant", "lion", *SMALL)
    assert "3 passed" in said
    assert "step      2/2" in said
    assert "completed" in said


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
