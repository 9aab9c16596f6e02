"""Which code trains: the hash of the sources that decide a trial's numbers, and a name for people.

The hash certifies. A git commit could not: one that touches only a page of the documentation
changes it, and two different uncommitted changes do not.
"""

from __future__ import annotations

import hashlib
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DECIDING = ("harness/data", "harness/training", "models", "optimizers")
"""What turns a spec into numbers. What places, records, compares and shows them is not here."""

HASH_DIGITS = 16


@cache
def code_sha256(root: Path = ROOT) -> str:
    """The first digits of the SHA-256 of the Python sources that decide a trial's numbers."""
    hasher = hashlib.sha256()
    for folder in DECIDING:
        for path in sorted((root / folder).rglob("*.py")):
            hasher.update(f"{path.relative_to(root).as_posix()}\0".encode())
            hasher.update(path.read_bytes())
            hasher.update(b"\0")
    return hasher.hexdigest()[:HASH_DIGITS]


@cache
def code_version(root: Path = ROOT) -> str:
    """`a1b2c3d4e5f6`, the commit of a git tree, `+dirty` where that was changed; else `0.1.0`."""
    if _git(root, "rev-parse", "--show-toplevel") == str(root):
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        if commit:
            changed = _git(root, "status", "--porcelain", "--", *DECIDING)
            return commit + ("+dirty" if changed else "")
    try:
        return version("optbench")
    except PackageNotFoundError:
        return "unknown"


def _git(root: Path, *arguments: str) -> str | None:
    """What git answers; None where there is no git, no repository, or no commit."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
