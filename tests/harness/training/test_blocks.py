"""The settings that change how fast and in how much memory a trial trains, and not what it is."""

from __future__ import annotations

import pytest
import torch

from harness.errors import UserError
from harness.study.settings import TrainingConfig
from harness.study.trial import canonical_sha256
from harness.training.blocks import compiles, set_up_blocks
from models import ModelConfig, MoETransformer


def training(**settings: object) -> TrainingConfig:
    return TrainingConfig.model_validate({"steps": 1, "batch_size": 1, **settings})


def test_compile_is_on_for_a_gpu_and_off_on_a_cpu_unless_the_study_says_so() -> None:
    assert compiles(training(), device_type="cuda")
    assert not compiles(training(), device_type="cpu")
    assert compiles(training(compile="on"), device_type="cpu")
    assert not compiles(training(compile="off"), device_type="cuda")
    assert not compiles(training(backend="deepspeed", zero_stage=3), device_type="cuda")


def test_the_defaults_are_no_part_of_what_a_trial_is() -> None:
    written = training().model_dump(mode="json")
    assert "compile" not in written
    assert "activation_checkpointing" not in written
    spelled_out = training(compile="auto", activation_checkpointing=False)
    assert canonical_sha256(spelled_out) == canonical_sha256(training())
    chosen = training(compile="on", activation_checkpointing=True)
    assert TrainingConfig.model_validate(chosen.model_dump(mode="json")) == chosen


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # Inductor's own, at import
def test_the_blocks_of_the_model_are_set_as_the_study_says() -> None:
    config = ModelConfig(hidden_size=8, num_layers=2, num_heads=2, feed_forward="dense")

    def blocks(**settings: object) -> list[tuple[bool, bool]]:
        model = MoETransformer(config, vocab_size=5)
        set_up_blocks(model, training(**settings), device_type="cpu")
        return [(block.compiled is not None, block.checkpointed) for block in model.blocks]

    assert blocks() == [(False, False)] * 2
    assert blocks(compile="on") == [(True, False)] * 2
    assert blocks(activation_checkpointing=True) == [(False, True)] * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compile": "on"}, r"training\.compile needs .*compile_blocks\(\).*to 'off'"),
        (
            {"activation_checkpointing": True},
            r"training\.activation_checkpointing needs .*checkpoint_blocks\(\).*to false",
        ),
    ],
)
def test_a_model_that_cannot_do_what_is_asked_for_is_refused(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        set_up_blocks(torch.nn.Linear(1, 1), training(**settings), device_type="cpu")


def test_a_model_without_blocks_to_compile_trains_on_a_gpu_all_the_same() -> None:
    set_up_blocks(torch.nn.Linear(1, 1), training(), device_type="cuda")
