"""Logs of made-up runs, in the form of nanoGPT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

WriteLog = Callable[..., Path]


@pytest.fixture
def write_log(tmp_path: Path) -> WriteLog:
    """Writes `logs/VARIANT/seedN.txt`, a line for each loss, 100 steps apart."""

    def write(variant: str, seed: int, losses: Sequence[float | str], *, every: int = 100) -> Path:
        path = tmp_path / "logs" / variant / f"seed{seed}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            f"step {number * every}: train loss 9.0000, val loss {loss}"
            for number, loss in enumerate(losses, start=1)
        ]
        path.write_text("compiling the model...\n" + "\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def ten_logs(write_log: WriteLog, tmp_path: Path) -> Path:
    """The folder of five logs of adamw and five of muon, which is better by about 0.1."""
    for variant, best in (("adamw", 3.0), ("muon", 2.9)):
        for seed in range(5):
            end = best + 0.01 * seed + (0.003 if variant == "muon" and seed % 2 else 0.0)
            write_log(variant, seed, [f"{end + rest:.4f}" for rest in (1.0, 0.4, 0.1, 0.0)])
    return tmp_path / "logs"
