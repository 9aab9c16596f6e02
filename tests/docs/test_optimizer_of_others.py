"""The page about optimizers of others: its file and its study, read and trained as they stand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PAGE = "docs/how-to/use-an-optimizer-of-others.md"
SMALL = ("data.max_documents=60", "data.vocab_size=320", "data.sequence_length=32")


@pytest.fixture
def folder(blocks_of: Any, named_file: Callable[..., str], tmp_path: Path) -> Path:
    for name in ("my_optimizers.py", "of-others.toml"):
        (tmp_path / name).write_text(named_file(blocks_of(PAGE), name))
    return tmp_path


def optbench(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.faults
def test_its_file_is_trained_in_the_folder_that_holds_it(folder: Path) -> None:
    settings = [word for text in (*SMALL, "training.steps=2") for word in ("--set", text)]
    printed = optbench(folder, "trial", "of-others.toml", "--variant", "mine", *settings, "--json")
    assert json.loads(printed.splitlines()[-1])["outcome"] == "completed"


@pytest.mark.faults
def test_two_workers_of_ray_find_the_file_and_the_package(folder: Path) -> None:
    changes = (*SMALL, "training.steps=3", "resources.workers=2")
    optbench(folder, "run", "of-others.toml", *(w for text in changes for w in ("--set", text)))
    trials = folder / "runs" / "of-others" / "trials"
    specs = [json.loads(file.read_text())["optimizer"] for file in trials.glob("*/spec.json")]
    sources = {spec.get("path"): spec.get("source", "") for spec in specs}
    assert sources["my_optimizers:SignMomentum"].startswith("sha256:")
    assert sources["pytorch_optimizer:Adan"].startswith("pytorch_optimizer 4.")
    outcomes = [json.loads(file.read_text()) for file in trials.glob("*/outcome.json")]
    assert [outcome["outcome"] for outcome in outcomes] == ["completed"] * 9
