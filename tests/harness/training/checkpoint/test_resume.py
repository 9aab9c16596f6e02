"""Checkpoints in one process: what is saved, and what is refused. Gangs: tests/distributed."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from harness.cli.main import main
from harness.errors import UserError
from harness.study.trial import TrialSpec
from harness.training.backends.accelerator import AcceleratorBackend
from harness.training.backends.protocol import WorkerContext
from harness.training.checkpoint.resume import can_be_saved, prepare
from harness.training.checkpoint.saving import Keeper, SaveFailed
from harness.training.records import Outcome, Report
from optimizers.optimizer import NamedOptimizer

Run = Callable[..., tuple[list[Report], Outcome]]
Make = Callable[..., tuple[TrialSpec, WorkerContext]]
Plain = Callable[[Report | Outcome], dict[str, Any]]

KINDS = {
    "adamw": ("adamw", ()),
    "muon": ("muon", ()),
    "muon that skips starved experts, heavy ball": (
        "muon",
        (
            "variants.muon.optimizer.starved_matrices=skip",
            "variants.muon.optimizer.momentum_kind=heavy_ball",
            "model.num_experts=16",
            "training.accumulation_steps=2",
        ),
    ),
    "torch_muon": ("muon", ("variants.muon.optimizer={kind='torch_muon', lr=0.02}",)),
}
EVERY_TWO = {"checkpoint_every_minutes": 0.0, "checkpoint_every_steps": 2, "checkpoints_kept": 9}


@pytest.mark.parametrize("kind", KINDS)
def test_from_every_checkpoint_on_all_is_to_the_last_bit_what_it_was(
    run: Run, without_times: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    variant, overrides = KINDS[kind]
    overrides = (*overrides, "training.evaluation_every=1")
    spoil_the_gradient_of_update(2, monkeypatch)
    whole, end = run(*overrides, variant=variant, checkpoints=str(tmp_path / "kept"), **EVERY_TWO)
    assert whole[-1].counters["skipped_steps"] == 1
    kept = sorted((tmp_path / "kept").iterdir())
    assert [path.name for path in kept] == ["step-00000002", "step-00000004"]
    monkeypatch.undo()
    for step, source in zip((2, 4), kept, strict=True):
        reports, outcome = run(*overrides, variant=variant, resume_from=str(source))
        assert reports[0] == whole[step]  # with its times
        for resumed, expected in zip(reports, whole[step:], strict=True):
            assert without_times(resumed) == without_times(expected)
        assert without_times(outcome) == without_times(end)


def spoil_the_gradient_of_update(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes one gradient infinite before one update: its step is skipped, its loss is finite."""
    updates = iter(range(1, 100))
    clip = NamedOptimizer.clip_gradients

    def spoilt(self: NamedOptimizer, max_norm: float) -> Tensor:
        if next(updates) == number:
            parameter = self.param_groups[0]["params"][0]
            assert parameter.grad is not None
            parameter.grad.view(-1)[0] = float("inf")
        return clip(self, max_norm)

    monkeypatch.setattr(NamedOptimizer, "clip_gradients", spoilt)


def test_the_times_of_a_trial_that_goes_on_add_up(run: Run, tmp_path: Path) -> None:
    first, stopped = run("training.evaluation_every=2", save_to=tmp_path, stop_at_step=4)
    (loaded, last), end = run("training.evaluation_every=2", resume_from=tmp_path)
    assert loaded == first[-1]
    assert loaded.checkpoint_time_s == 0.0 < last.checkpoint_time_s
    assert stopped.wall_time_s is not None
    assert end.wall_time_s is not None
    assert end.wall_time_s > 0.9 * stopped.wall_time_s
    for time in ("train_time_s", "evaluation_time_s", "startup_time_s"):
        assert getattr(last, time) > getattr(loaded, time) > 0
    # The save is in no step, and in the wall time.
    spent = last.startup_time_s + last.train_time_s + last.evaluation_time_s
    assert spent + last.checkpoint_time_s < end.wall_time_s + stopped.wall_time_s


def test_random_numbers_go_on_where_they_were(
    run: Run, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing here draws any; a model that drops out does."""
    drawn: list[float] = []
    update = AcceleratorBackend.update

    def drawing(self: AcceleratorBackend, *, clip_norm: float) -> Tensor:
        drawn.append(float(torch.rand(())))
        return update(self, clip_norm=clip_norm)

    monkeypatch.setattr(AcceleratorBackend, "update", drawing)
    run()
    whole, drawn[:] = list(drawn), []
    run(save_to=tmp_path, stop_at_step=3)
    run(resume_from=tmp_path)
    assert drawn == whole


def test_a_trial_whose_state_cannot_be_saved_is_trained_without_checkpoints(
    make: Make, tmp_path: Path
) -> None:
    kind = ("variants.muon.optimizer={kind='deepspeed_muon', lr=0.02}",)
    inside = ("training.backend=deepspeed", "training.clip_norm=0")
    spec, context = make(*kind, *inside, checkpoints=str(tmp_path), checkpoint_every_steps=1)
    assert prepare(spec, context) is None
    assert not can_be_saved(spec, context)
    keeper = Keeper(context, step=0, saves=can_be_saved(spec, context))
    assert not keeper.is_due(6, backend=None)  # type: ignore[arg-type]


def test_the_last_step_of_a_schedule_that_falls_to_zero_still_moves_the_model(
    run: Run, tmp_path: Path
) -> None:
    to_zero = "training.schedule.floor=0"
    run(to_zero, save_to=tmp_path, stop_at_step=5)
    (loaded, last), outcome = run(to_zero, resume_from=tmp_path)
    assert loaded.learning_rate > last.learning_rate > 0
    assert last.validation_loss != loaded.validation_loss
    assert outcome.preflight["moved"]
    assert outcome.outcome == "completed"


def test_a_checkpoint_holds_ranges_by_name_and_a_manifest(
    run: Run, make: Make, tmp_path: Path
) -> None:
    run(save_to=tmp_path / "new", stop_at_step=2)
    folder = tmp_path / "new" / "step-00000002"
    part = folder / "part-00000-of-00001.safetensors"
    assert sorted(folder.iterdir()) == [folder / "manifest.json", part]
    spec, _ = make()
    experts = "blocks.0.feed_forward.experts.down"
    with safe_open(part, framework="pt") as file:
        numel = spec.model.num_experts * 48 * 32
        assert file.get_slice(f"weights/{experts}/0-{numel}").get_shape() == [numel]
        assert file.get_slice(f"optimizer/{experts}/momentum/0-{48 * 32}").get_shape() == [48 * 32]
    manifest = json.loads((folder / "manifest.json").read_text())["checkpoint"]
    assert (manifest["step"], manifest["spec_key"]) == (2, spec.key)
    assert manifest["parts"][0]["bytes"] == part.stat().st_size


def test_a_failed_save_leaves_the_older_checkpoint_as_it_was(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    run(save_to=folder, stop_at_step=2)
    part = "step-00000002/part-00000-of-00001.safetensors"
    before = (folder / part).read_bytes()
    with files_no_larger_than(len(before) // 2), pytest.raises(SaveFailed, match="too large"):
        run(save_to=folder, stop_at_step=3)
    assert (folder / part).read_bytes() == before
    assert not list((folder / "step-00000003").iterdir())
    (loaded, *_), _ = run(resume_from=folder)
    assert loaded.step == 2


def test_a_checkpoint_that_fails_on_the_way_costs_a_warning_and_no_trial(
    run: Run, without_times: Plain, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, end = run("training.evaluation_every=2")
    with files_no_larger_than(10_000):
        reports, outcome = run(
            "training.evaluation_every=2", checkpoints=str(tmp_path), **EVERY_TWO
        )
    assert [without_times(r) for r in reports] == [without_times(r) for r in whole]
    assert without_times(outcome) == without_times(end)
    assert "no checkpoint of step 2: cannot save to" in caplog.text


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("overrides", "what"),
    [
        (["variants.muon.optimizer.lr=0.5"], r"optimizer\.lr \(0\.02 there, 0\.5 here\)"),
        (["model.num_layers=3"], r"model\.num_layers \(2 there, 3 here\)"),
        (["data.vocab_size=300"], r"data\.vocab_size \(320 there, 300 here\)"),
        (["training.steps=9"], r"training\.steps \(6 there, 9 here\)"),
        (["training.precision=bf16"], r"training\.precision \('fp32' there, 'bf16' here\)"),
        (["variants.muon.optimizer.ns_dtype=bf16"], r"ns_dtype \('fp32' there, 'bf16' here\)"),
    ],
)
def test_another_trial_is_refused_and_the_difference_named(
    run: Run, make: Make, tmp_path: Path, overrides: list[str], what: str
) -> None:
    run(save_to=tmp_path, stop_at_step=1)
    spec, context = make(*overrides, resume_from=tmp_path)
    with pytest.raises(UserError, match=what):
        prepare(spec, context)


def test_a_gpu_does_not_go_on_from_a_cpu(run: Run, make: Make, tmp_path: Path) -> None:
    run(save_to=tmp_path, stop_at_step=1)
    with pytest.raises(UserError, match="was trained on cpu and this worker is to train on cuda"):
        prepare(*make(resume_from=tmp_path, gpus=1))


def test_what_only_says_where_it_runs_may_change(run: Run, make: Make, tmp_path: Path) -> None:
    run(save_to=tmp_path, stop_at_step=1)
    elsewhere = ("resources.workers=2", "training.backend=fsdp2", "resources.cpus_per_worker=2")
    spec, context = make(*elsewhere, "training.accumulation_steps=2", resume_from=tmp_path)
    resumed = prepare(spec, context)
    assert resumed is not None
    assert resumed.step == 1
    resumed.close()


def test_a_step_to_stop_at_must_lie_ahead_and_be_saved(
    run: Run, make: Make, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="cannot stop at step 7: choose one from 1 to 6"):
        prepare(*make(save_to=tmp_path, stop_at_step=7))
    with pytest.raises(UserError, match="loses the work: give --save-to"):
        prepare(*make(stop_at_step=3))
    run(save_to=tmp_path)
    with pytest.raises(UserError, match="at step 6 of 6: there is nothing left"):
        prepare(*make(resume_from=tmp_path))


def test_a_folder_that_cannot_be_written_is_refused_before_training(
    make: Make, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot save to"):
        prepare(*make(save_to=tmp_path / "file" / "below"))


def test_the_state_of_deepspeeds_own_muon_is_refused_before_training(
    make: Make, tmp_path: Path
) -> None:
    kind = ("variants.muon.optimizer={kind='deepspeed_muon', lr=0.02}",)
    inside = ("training.backend=deepspeed", "training.clip_norm=0")
    with pytest.raises(UserError, match="state of deepspeed_muon lies inside DeepSpeed"):
        prepare(*make(*kind, *inside, save_to=tmp_path))


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        (None, None, "no checkpoint in"),
        ("manifest.json", "", "cannot be used, it is damaged"),
        ("step-00000004/manifest.json", "not a manifest", "cannot be used, it is damaged"),
        ("step-00000004/part-00000-of-00001.safetensors", "", "it has no manifest.json"),
        ("checkpoint.safetensors", "", "a checkpoint of optbench 0.1.0"),
    ],
)
def test_a_missing_or_damaged_checkpoint_is_said_to_be_so_with_exit_code_2(
    study_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    file: str | None,
    content: str | None,
    said: str,
) -> None:
    folder = tmp_path / "saved"
    if file is not None and content is not None:
        (folder / file).parent.mkdir(parents=True)
        (folder / file).write_text(content)
    command = ["optbench", "trial", str(study_file), "--variant", "muon", "--resume", str(folder)]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    printed = capsys.readouterr().err
    assert said in " ".join(printed.split())
    assert "Traceback" not in printed
