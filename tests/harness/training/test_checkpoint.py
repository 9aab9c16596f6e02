"""Checkpoints in one process: what is saved, and what is refused. Gangs: tests/distributed."""

from __future__ import annotations

import dataclasses
import json
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError, safe_open

from harness.cli.main import main
from harness.data import prepare
from harness.errors import UserError
from harness.study.load import load_study
from harness.study.study_file import find_variant
from harness.study.trial import TrialSpec, trial_spec
from harness.training import checkpoint
from harness.training.backends.protocol import WorkerContext
from harness.training.loop import train
from harness.training.records import Outcome, Report

Run = Callable[..., tuple[list[Report], Outcome]]
Make = Callable[..., tuple[TrialSpec, WorkerContext]]


@pytest.fixture
def make(study_file: Path) -> Make:
    """Spec and context of a trial."""

    def make(*overrides: str, variant: str = "muon", **context: object) -> object:
        study = load_study(study_file, overrides)
        dataset = prepare(study.data)
        spec = trial_spec(study, find_variant(study, variant), 0, dataset.manifest.sha256)
        return spec, dataclasses.replace(WorkerContext(dataset.path), **context)

    return make


@pytest.fixture
def run(make: Make) -> Run:
    def run(*overrides: str, **context: object) -> tuple[list[Report], Outcome]:
        training, reports = train(*make(*overrides, **context)), []
        while True:
            try:
                reports.append(next(training))
            except StopIteration as end:
                return reports, end.value

    return run


def test_a_resumed_trial_reports_to_the_last_bit_what_an_uninterrupted_one_does(
    run: Run, tmp_path: Path
) -> None:
    whole, _ = run("training.evaluation_every=2")
    run("training.evaluation_every=2", save_to=tmp_path, stop_at_step=4)
    (loaded, last), outcome = run("training.evaluation_every=2", resume_from=tmp_path)
    same = ("step", "tokens", "validation_loss", "learning_rate", "counters", "router_load")
    for resumed, expected in ((loaded, whole[2]), (last, whole[3])):
        assert [getattr(resumed, k) for k in same] == [getattr(expected, k) for k in same]
    assert last.train_loss == whole[3].train_loss
    assert last.evaluation_time_s > loaded.evaluation_time_s > 0
    assert loaded.train_time_s > 0
    assert outcome.outcome == "completed"


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


def test_a_checkpoint_holds_whole_tensors_by_name_and_its_description(
    run: Run, make: Make, tmp_path: Path
) -> None:
    run(save_to=tmp_path / "new", stop_at_step=2)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [checkpoint.FILE_NAME]
    spec, _ = make()
    experts = "blocks.0.feed_forward.experts.down"
    with safe_open(tmp_path / "new" / checkpoint.FILE_NAME, framework="pt") as file:
        description = json.loads(file.metadata()["optbench"])
        weights = file.get_slice(f"weights/{experts}").get_shape()
        assert file.get_slice(f"optimizer/{experts}/momentum").get_shape() == weights
        assert len(weights) == 3
    assert (description["step"], description["spec_key"]) == (2, spec.key)


def test_a_failed_save_leaves_the_older_checkpoint_as_it_was(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    run(save_to=folder, stop_at_step=2)
    before = (folder / checkpoint.FILE_NAME).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises((OSError, SafetensorError), match="File too large"):
            run(save_to=folder, stop_at_step=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in folder.iterdir()] == [checkpoint.FILE_NAME]
    assert (folder / checkpoint.FILE_NAME).read_bytes() == before


@pytest.mark.parametrize(
    ("overrides", "what"),
    [
        (["variants.muon.optimizer.lr=0.5"], r"optimizer\.lr \(0\.02 there, 0\.5 here\)"),
        (["model.num_layers=3"], r"model\.num_layers \(2 there, 3 here\)"),
        (["data.vocab_size=300"], r"data\.vocab_size \(320 there, 300 here\)"),
        (["training.steps=9"], r"training\.steps \(6 there, 9 here\)"),
        (["training.precision=bf16"], r"training\.precision \('fp32' there, 'bf16' here\)"),
        (["variants.muon.optimizer.ns_dtype=bf16"], r"ns_dtype \('fp32' there, 'bf16' here\)"),
        (["resources.gpus_per_worker=1"], r"gpus_per_worker \(0 there, 1 here\)"),
    ],
)
def test_another_trial_is_refused_and_the_difference_named(
    run: Run, make: Make, tmp_path: Path, overrides: list[str], what: str
) -> None:
    run(save_to=tmp_path, stop_at_step=1)
    spec, context = make(*overrides, resume_from=tmp_path)
    with pytest.raises(UserError, match=what):
        checkpoint.prepare(spec, context)


def test_what_only_says_where_it_runs_may_change(run: Run, make: Make, tmp_path: Path) -> None:
    run(save_to=tmp_path, stop_at_step=1)
    elsewhere = ("resources.workers=2", "training.backend=fsdp2", "resources.cpus_per_worker=2")
    spec, context = make(*elsewhere, "training.accumulation_steps=2", resume_from=tmp_path)
    resumed = checkpoint.prepare(spec, context)
    assert resumed is not None
    assert resumed.step == 1


def test_a_step_to_stop_at_must_lie_ahead_and_be_saved(
    run: Run, make: Make, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="cannot stop at step 7: choose one from 1 to 6"):
        checkpoint.prepare(*make(save_to=tmp_path, stop_at_step=7))
    with pytest.raises(UserError, match="loses the work: give --save-to"):
        checkpoint.prepare(*make(stop_at_step=3))
    run(save_to=tmp_path)
    with pytest.raises(UserError, match="at step 6 of 6: there is nothing left"):
        checkpoint.prepare(*make(resume_from=tmp_path))


def test_a_folder_that_cannot_be_written_is_refused_before_training(
    make: Make, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot save to"):
        checkpoint.prepare(*make(save_to=tmp_path / "file" / "below"))


def test_the_state_of_deepspeeds_own_muon_is_refused_before_training(
    make: Make, tmp_path: Path
) -> None:
    kind = ("variants.muon.optimizer={kind='deepspeed_muon', lr=0.02}",)
    inside = ("training.backend=deepspeed", "training.clip_norm=0")
    with pytest.raises(UserError, match="state of deepspeed_muon lies inside DeepSpeed"):
        checkpoint.prepare(*make(*kind, *inside, save_to=tmp_path))


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint"])
def test_a_missing_or_damaged_checkpoint_is_said_to_be_so_with_exit_code_2(
    study_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    content: bytes | None,
) -> None:
    folder = tmp_path / "saved"
    if content is not None:
        folder.mkdir()
        (folder / checkpoint.FILE_NAME).write_bytes(content)
    command = ["optbench", "trial", str(study_file), "--variant", "muon", "--resume", str(folder)]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert ("no checkpoint in" if content is None else "or damaged") in said
    assert "Traceback" not in said
