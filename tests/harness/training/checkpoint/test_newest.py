"""Which checkpoint is gone on from, after whatever happened to the files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.study.code_version import code_sha256
from harness.study.trial import TrialSpec
from harness.training.backends.protocol import WorkerContext
from harness.training.checkpoint import newest_valid, saving
from harness.training.checkpoint.manifest import read_manifest
from harness.training.checkpoint.saving import Keeper
from harness.training.checkpoint.storage import LocalFolder
from harness.training.pulse import Pulse
from tune.gangs.worker import _newest_checkpoint

Make = Callable[..., tuple[TrialSpec, WorkerContext]]
EVERY_TWO = {"checkpoint_every_minutes": 0.0, "checkpoint_every_steps": 2}
OFTEN = "training.evaluation_every=1"


@pytest.fixture
def saved(saved_once: Path, tmp_path: Path) -> Path:
    """The checkpoints of steps 2 and 4."""
    return Path(shutil.copytree(saved_once, tmp_path / "kept"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path, share: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(share * (len(content) - 1))] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": truncate,
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    **{f"flipped at {share}": (lambda p, s=share: flip(p, s)) for share in (0, 0.01, 0.5, 0.9, 1)},
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("file", ["manifest.json", "part-00000-of-00001.safetensors"])
def test_a_damaged_file_leaves_the_next_older_checkpoint(
    saved: Path, make: Make, caplog: pytest.LogCaptureFixture, file: str, damage: str
) -> None:
    spec, _ = make(OFTEN)
    newest = newest_valid(saved, spec, code_sha256(), device_type="cpu")
    assert newest is not None
    assert (newest.step, newest.skipped, caplog.text) == (4, (), "")
    DAMAGE[damage](saved / "step-00000004" / file)
    older = newest_valid(str(saved), spec, code_sha256())
    assert older is not None
    assert (older.folder, older.step) == (str(saved / "step-00000002"), 2)
    (sentence,) = older.skipped
    assert f"{saved / 'step-00000004'} is left alone" in sentence
    assert file in sentence
    assert sentence in caplog.text


@pytest.mark.parametrize(("reported", "resumed"), [(-1, 0), (0, 0), (1, 2), (2, 2), (3, 4), (6, 4)])
def test_a_checkpoint_ahead_of_the_reports_that_were_written_would_leave_a_gap(
    saved: Path, make: Make, reported: int, resumed: int
) -> None:
    """An evaluation follows every step here, and that of the checkpoint itself is told again."""
    spec, _ = make(OFTEN)
    trial = {
        "spec": spec.model_dump(mode="json"),
        "resources": {"gpus_per_worker": 0},
        "context": {"checkpoints": str(saved)},
        "reported_step": reported,
        "driver": {"node": "", "study": "", "dataset_path": "", "files": None},
    }
    assert _newest_checkpoint(trial, Pulse())["resumed_step"] == resumed


def test_no_byte_of_a_manifest_can_change_unseen(saved: Path, make: Make) -> None:
    path = saved / "step-00000004" / "manifest.json"
    content, (spec, _) = path.read_bytes(), make(OFTEN)
    for position in range(0, len(content), 211):
        for bit in (1, 32):
            changed = bytearray(content)
            changed[position] ^= bit
            path.write_bytes(changed)
            found = newest_valid(saved, spec, code_sha256())
            assert found is not None
            assert found.step == 2, (position, bit)


def test_other_code_another_trial_and_another_device_are_left_alone(
    saved: Path, make: Make
) -> None:
    spec, _ = make(OFTEN)
    assert newest_valid(saved, spec, "0123456789abcdef") is None
    assert newest_valid(saved, spec, code_sha256(), device_type="cuda") is None
    other, _ = make(OFTEN, "variants.muon.optimizer.lr=0.5")
    assert newest_valid(saved, other, code_sha256()) is None
    elsewhere, _ = make("training.backend=fsdp2", "training.evaluation_every=5")
    assert newest_valid(saved, elsewhere, code_sha256()) is not None
    assert newest_valid(saved / "nothing", spec, code_sha256()) is None


def test_without_the_manifest_which_is_written_last_there_is_no_checkpoint(
    run: Any, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if worker 0 were killed when all parts are there: the trial, too, ends there."""
    complete = saving._complete

    def killed(child: Any, manifest: Any) -> None:
        if manifest.step == 4:
            raise KeyboardInterrupt
        complete(child, manifest)

    monkeypatch.setattr(saving, "_complete", killed)
    with pytest.raises(KeyboardInterrupt):
        run(OFTEN, checkpoints=str(tmp_path), **EVERY_TWO)
    assert (tmp_path / "step-00000004" / "part-00000-of-00001.safetensors").exists()
    monkeypatch.undo()
    found = newest_valid(tmp_path, make(OFTEN)[0], code_sha256())
    assert found is not None
    assert found.step == 2
    reports, outcome = run(OFTEN, checkpoints=str(tmp_path), resume_from=found.folder, **EVERY_TWO)
    assert [report.step for report in reports] == [2, 3, 4, 5, 6]
    assert outcome.outcome == "completed"
    again = newest_valid(tmp_path, make(OFTEN)[0], code_sha256())
    assert again is not None
    assert again.step == 4


def test_a_part_on_a_disk_that_worker_0_does_not_see_makes_no_checkpoint(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = LocalFolder(saved / "step-00000004")
    manifest = read_manifest(newest)
    newest.remove("manifest.json")
    newest.remove("part-00000-of-00001.safetensors")
    monkeypatch.setattr(saving, "VISIBLE_WITHIN_S", 0.0)
    with pytest.raises(OSError, match="must be on storage that all nodes share"):
        saving._complete(newest, manifest)
    assert newest.names() == []


def test_old_checkpoints_go_and_what_cannot_be_read_does_not_count(
    run: Any, make: Make, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    (kept / "step-00000001").mkdir(parents=True)  # never completed
    (kept / "notes").mkdir()
    often = {"checkpoint_every_minutes": 0.0, "checkpoint_every_steps": 1}
    run(OFTEN, checkpoints=str(kept), checkpoints_kept=2, **often)
    assert sorted(path.name for path in kept.iterdir()) == [
        "notes",
        "step-00000004",
        "step-00000005",
    ]
    (kept / "step-00000003").mkdir()
    run(OFTEN, checkpoints=str(kept), checkpoints_kept=2, **EVERY_TWO)
    assert {"step-00000002", "step-00000004"} <= {path.name for path in kept.iterdir()}
    assert not (kept / "step-00000003").exists()
    # What is newer, but of no use to this attempt, is neither counted nor removed.
    shutil.copytree(kept / "step-00000005", kept / "step-00000009")
    truncate(kept / "step-00000009" / "manifest.json")
    run(OFTEN, checkpoints=str(kept), checkpoints_kept=1, **often)
    found = newest_valid(kept, make(OFTEN)[0], code_sha256())
    assert found is not None
    assert found.step == 5
    assert len(list(kept.iterdir())) == 3


class OneWorker:
    """A gang of one, as far as deciding goes."""

    device = "cpu"
    rank = 0

    def sum_over_workers(self, values: Any) -> Any:
        return values


def test_the_clock_or_the_steps_make_a_checkpoint_due(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = [0.0]
    monkeypatch.setattr(saving.time, "monotonic", lambda: clock[0])
    context = WorkerContext(tmp_path, checkpoints=str(tmp_path), checkpoint_every_minutes=10)
    keeper, gang = Keeper(context, step=0, saves=True), OneWorker()
    for seconds, due in ((599.0, False), (600.0, True)):
        clock[0] = seconds
        assert keeper.is_due(7, gang) is due  # type: ignore[arg-type]
    keeper.saved(7, took_s=18.0)
    # 18 s are 2 % of 15 minutes.
    for seconds, due in ((600.0 + 899.0, False), (600.0 + 900.0, True)):
        clock[0] = seconds
        assert keeper.is_due(7, gang) is due  # type: ignore[arg-type]


def test_steps_make_one_due_whatever_the_last_one_took(tmp_path: Path) -> None:
    context = WorkerContext(tmp_path, checkpoints=str(tmp_path), **EVERY_TWO)  # type: ignore[arg-type]
    keeper, gang = Keeper(context, step=3, saves=True), OneWorker()
    keeper.saved(4, took_s=1e6)
    assert [keeper.is_due(step, gang) for step in (5, 6, 7)] == [False, True, True]  # type: ignore[arg-type]
    no_place = Keeper(WorkerContext(tmp_path), step=0, saves=True)
    assert not no_place.is_due(100, gang)  # type: ignore[arg-type]
