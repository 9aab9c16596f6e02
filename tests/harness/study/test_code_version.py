"""The hash names the sources that decide the numbers; the version is for people."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from harness.study.code_version import DECIDING, ROOT, code_sha256, code_version


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small source tree with a file in each folder that decides, and one that does not."""
    for folder in (*DECIDING, "docs"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.py").write_text("x = 1\n")
    return tmp_path


def git(tree: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    answer = subprocess.run(
        ["git", "-C", str(tree), *identity, *arguments], capture_output=True, text=True, check=True
    )
    return answer.stdout.strip()


def commit(tree: Path) -> str:
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "a", "--allow-empty")
    return git(tree, "rev-parse", "--short=12", "HEAD")


def fresh(tree: Path) -> tuple[str, str]:
    """Both, as another process would see them."""
    return code_sha256.__wrapped__(tree), code_version.__wrapped__(tree)


@pytest.mark.parametrize("folder", DECIDING)
def test_a_change_of_what_decides_the_numbers_is_other_code(tree: Path, folder: str) -> None:
    before = fresh(tree)[0]
    (tree / folder / "a.py").write_text("x = 2\n")
    assert fresh(tree)[0] != before


def test_a_renamed_file_is_other_code(tree: Path) -> None:
    before = fresh(tree)[0]
    (tree / "models" / "a.py").rename(tree / "models" / "b.py")
    assert fresh(tree)[0] != before


def test_a_commit_that_touches_a_page_has_another_version_and_the_same_code(tree: Path) -> None:
    git(tree, "init", "-q")
    first = commit(tree)
    before = fresh(tree)
    assert before[1] == first
    (tree / "docs" / "a.py").write_text("x = 2\n")
    assert fresh(tree) == before, "what does not decide is not even dirty"
    second = commit(tree)
    assert fresh(tree) == (before[0], second) != before


def test_two_uncommitted_changes_share_a_version_and_are_told_apart(tree: Path) -> None:
    git(tree, "init", "-q")
    first = commit(tree)
    (tree / "models" / "a.py").write_text("x = 2\n")
    one = fresh(tree)
    (tree / "models" / "a.py").write_text("x = 3\n")
    other = fresh(tree)
    assert one[1] == other[1] == f"{first}+dirty"
    assert one[0] != other[0]


def test_a_folder_inside_another_repository_has_the_version_of_the_package(tree: Path) -> None:
    git(tree, "init", "-q")
    commit(tree)
    inside = tree / "site-packages"
    inside.mkdir()
    assert code_version.__wrapped__(inside) == version("optbench")


def test_this_code_has_both() -> None:
    assert len(code_sha256()) == 16
    assert code_version()
    assert all(any((ROOT / folder).rglob("*.py")) for folder in DECIDING)
