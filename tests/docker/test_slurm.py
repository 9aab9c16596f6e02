"""docker/slurm.sh with a real Ray, where `srun` runs its command on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
SRUN = """#!/bin/bash
echo "$*" >> "$SRUN_LOG"
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
"""Slurm's own waits for the command, as this one does, and passes signals on."""


class Submission:
    """`sbatch --nodes=2 --cpus-per-task=1 docker/slurm.sh tiny.toml`, on one machine."""

    def __init__(self, folder: Path, study_text: str) -> None:
        self.folder, self.job = folder, f"{os.getpid()}"
        self.ray_folder = folder / f"ray-{self.job}"
        (folder / "bin").mkdir()
        srun = folder / "bin/srun"
        srun.write_text(SRUN)
        srun.chmod(0o755)
        (folder / "tiny.toml").write_text(study_text.replace("workers = 1", "workers = 2"))

    def start(self) -> subprocess.Popen[str]:
        environment = os.environ | {
            "PATH": f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SRUN_LOG": str(self.folder / "srun.log"),
            "TMPDIR": str(self.folder),
            "SLURM_JOB_ID": self.job,
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_PER_TASK": "1",
            "SLURMD_NODENAME": "first",
        }
        return subprocess.Popen(
            ["bash", str(ROOT / "docker/slurm.sh"), "tiny.toml", "--runs-dir", "runs"],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def left(self) -> list[str]:
        """Processes of this job's Ray that are still there."""
        return [
            " ".join(process.info["cmdline"])
            for process in psutil.process_iter(["cmdline"])
            if str(self.ray_folder) in " ".join(process.info["cmdline"] or ())
        ]

    def outcomes(self) -> int:
        return len(list(self.folder.glob("runs/tiny/trials/*/outcome.json")))


@pytest.fixture
def submission(study_text: str) -> Iterator[Submission]:
    # Ray's sockets lie below it, and the name of a socket has room for 107 characters.
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder:
        yield Submission(Path(folder), study_text)


@pytest.mark.faults
def test_a_study_ends_with_its_time_and_is_finished_by_the_next_job(submission: Submission) -> None:
    first = submission.start()
    deadline = time.monotonic() + 240
    while submission.outcomes() == 0:
        assert first.poll() is None, first.communicate()[0]
        assert time.monotonic() < deadline, "no trial ended"
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    printed, _ = first.communicate(timeout=240)
    assert first.returncode == 143, printed
    assert "interrupted" in printed
    assert submission.left() == []
    assert not submission.ray_folder.exists()

    second = submission.start()
    printed, _ = second.communicate(timeout=480)
    assert second.returncode == 0, printed
    assert submission.outcomes() == 6
    assert "[6/6]" in printed
    assert submission.left() == []
    assert not submission.ray_folder.exists()

    on_the_other = (submission.folder / "srun.log").read_text().splitlines()
    joined = [line for line in on_the_other if "ray start" in line]
    assert len(joined) == 2
    assert all("--nodes=1 --ntasks=1" in line and "--exclude=first" in line for line in joined)
    assert not any("--head" in line for line in joined)
    # Other users see command lines with `ps`.
    assert not any("TOKEN" in line.upper() for line in on_the_other)
