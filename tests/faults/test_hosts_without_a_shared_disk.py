"""A gang over two hosts of which one sees nothing of the driver's disk: data comes, states go."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from under_fire import StudyProcess, failures, left, study_folder, worker_at

from harness.runs.attempts import AttemptBegan
from harness.training.checkpoint.manifest import read_manifest
from harness.training.checkpoint.storage import LocalFolder

SCRIPT = Path(__file__).with_name("cluster_without_a_shared_disk.py")
OPTIONS = (
    *("--set", "training.steps=40"),
    *("--set", "training.evaluation_every=4"),
    *("--set", "checkpoints.every_steps=4"),
    *("--set", "resources.workers=2"),
)

pytestmark = pytest.mark.faults


@dataclass(frozen=True)
class Apart:
    """Two hosts: this one, and one that sees an empty disk in the place of `drivers`."""

    address: str
    drivers: Path
    cache: Path
    there: Path

    @property
    def runs(self) -> Path:
        return self.drivers / "runs"

    def study(self, file: Path, *options: str) -> StudyProcess:
        environment = {"OPTBENCH_CACHE": str(self.drivers / "cache")}
        return StudyProcess(file, self.runs, (*OPTIONS, *options), environment)


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Apart]:
    probe = ["unshare", "-m", "mount", "-t", "tmpfs", "none", str(tmp_path)]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("mount namespaces are not permitted here")
    drivers, cache = tmp_path / "driver", tmp_path / "cache-of-the-other"
    drivers.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(drivers), str(cache)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"},
    )
    assert process.stdout is not None
    address, pid = process.stdout.readline().split()
    there = Path(f"/proc/{pid}/root/{drivers}")
    yield Apart(address, drivers, cache, there)
    process.communicate(timeout=120)


def test_a_gang_over_both_saves_and_goes_on_and_ends_as_on_one_machine(
    apart: Apart, study_text: str, tmp_path: Path
) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(study_text)
    with apart.study(file, "--address", apart.address) as study:
        key, place = study.until(lambda: worker_at(apart.runs, step=16, rank=1))
        shutil.rmtree(apart.cache)  # as of a host that joins only now: its worker brings the data
        os.kill(place.pid, signal.SIGKILL)
        assert study.wait() == 0, study.printed[-3000:]
    folder = study_folder(apart.runs)
    assert folder is not None
    trial = folder.trial(key)
    first, second = (e for e in trial.attempts() if isinstance(e, AttemptBegan))
    assert len({place.node for place in first.places}) == 2
    assert second.resumed_step >= 12, "it went on from a checkpoint of both hosts"
    assert {event.end for event in failures(apart.runs)} == {"worker_died"}

    newest = LocalFolder(trial.checkpoints_path / "step-00000036")
    manifest = read_manifest(newest)
    assert [newest.size(part.file) for part in manifest.parts] == [p.bytes for p in manifest.parts]
    assert list(apart.there.iterdir()) == [], "nothing was written where nobody looks"
    (brought,) = (path for path in (apart.cache / "data").iterdir() if path.is_dir())
    (built,) = (p for p in (apart.drivers / "cache" / "data").iterdir() if p.is_dir())
    for path in built.iterdir():
        assert (brought / path.name).read_bytes() == path.read_bytes()

    alone = tmp_path / "alone"
    with StudyProcess(file, alone, OPTIONS) as study:
        assert study.wait() == 0, study.printed[-3000:]
    assert left(apart.runs) == left(alone), "to the last bit: the workers are as many"
