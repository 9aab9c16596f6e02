"""Gangs of real gloo processes, for all tests of this folder from one process that imports once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

Trial = dict[str, Any]
"""`request`: `VARIANT[,KEY=VALUE ...]`; of checkpoints what the context says; what is `wrong`."""


class Gangs:
    """Trains in gangs of any size; see `run_gangs.py`."""

    def __init__(self, errors: Path) -> None:
        self._errors = errors
        # DeepSpeed would compile its Newton-Schulz for every shape: minutes, for the same numbers.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1"}
        with errors.open("w") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("run_gangs.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment,
            )

    def train(self, study: Path, trials: Sequence[Trial], *, workers: int) -> dict[str, Any]:
        """Request -> reports and outcome; one after another, in the same workers."""
        trained = self.train_in_order(study, trials, workers=workers)
        return {trial["request"]: one for trial, one in zip(trials, trained, strict=True)}

    def train_in_order(self, study: Path, trials: Sequence[Trial], *, workers: int) -> list[Any]:
        """Reports and outcome of each trial, or the refusal of the preflight."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            request = {
                "study": str(study),
                "workers": workers,
                "folder": folder,
                "trials": list(trials),
            }
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline().strip()
            assert answer == "ok", self._errors.read_text()[-4000:]
            files = [Path(folder) / f"{index}.json" for index in range(len(trials))]
            return [json.loads(file.read_text()) for file in files]

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="session")
def gangs(tmp_path_factory: pytest.TempPathFactory, data_cache: Path) -> Iterator[Gangs]:
    running = Gangs(tmp_path_factory.mktemp("gangs") / "stderr.txt")
    yield running
    running.close()
