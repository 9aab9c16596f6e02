"""How a model's blocks run: compiled, and with their activations kept or made again."""

from __future__ import annotations

from torch import nn

from harness.errors import UserError
from harness.study.settings import TrainingConfig
from optimizers import Muon, NamedOptimizer


def set_up_blocks(model: nn.Module, training: TrainingConfig, *, device_type: str) -> None:
    """Compile and checkpoint the blocks of the model as the study file says, before it is wrapped.

    Raises:
        UserError: the study asks for it, and this model has no such method.
    """
    if compiles(training, device_type=device_type) and (
        training.compile == "on" or hasattr(model, "compile_blocks")
    ):
        _call(model, "compile_blocks", setting="compile", off="'off'")
    if training.activation_checkpointing:
        _call(model, "checkpoint_blocks", setting="activation_checkpointing", off="false")


def measure_attention(model: nn.Module, optimizer: NamedOptimizer) -> None:
    """Let the model measure its attention logits for an optimizer that bounds them.

    Raises:
        UserError: this model has no such method, or its weights are not the optimizer's to scale.
    """
    if not isinstance(optimizer, Muon) or optimizer.spec.qk_clip is None:
        return
    if not hasattr(model, "measure_attention"):
        raise UserError(
            "optimizer.qk_clip needs a model with the method measure_attention(), which "
            f"{type(model).__name__} has not: add it, or leave qk_clip out"
        )
    try:
        optimizer.measure_by(model.measure_attention())  # type: ignore[operator]
    except ValueError as error:
        raise UserError(f"optimizer.qk_clip: {error}") from None


def compiles(training: TrainingConfig, *, device_type: str) -> bool:
    """What `compile` comes to; 'auto' is on for CUDA, where it pays.

    Not under ZeRO 3 unless asked: DeepSpeed fetches the weights in hooks on every layer, and each
    of them breaks the graph.
    """
    if training.compile != "auto":
        return training.compile == "on"
    return device_type == "cuda" and not (
        training.backend == "deepspeed" and training.zero_stage == 3
    )


def _call(model: nn.Module, method: str, *, setting: str, off: str) -> None:
    if not hasattr(model, method):
        raise UserError(
            f"training.{setting} needs a model with the method {method}(), which "
            f"{type(model).__name__} has not: add it, or set training.{setting} to {off}"
        )
    getattr(model, method)()
