"""A trial's logical state on disk: saved by any gang on any backend, continued by any other.

Weights and optimizer state are whole tensors under the parameter's name, whoever held which part of
them. Batches are indexed by the step, so of the data only the step has to be kept.

Everything is in one safetensors file, what is no tensor as JSON in its header: the file appears
whole or not at all, and tensors and description are never of different saves.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.errors import UserError
from harness.study.dotted import flatten
from harness.study.record import Record
from harness.study.trial import TrialSpec
from harness.training.backends.protocol import Backend, WorkerContext
from optimizers import NamedOptimizer

FILE_NAME = "checkpoint.safetensors"

# Who trains and who looks on: these change the order of sums in fp32, and nothing else. Another
# precision, dtype of Newton-Schulz or kind of device is other arithmetic and so another trial: a
# loss after some steps in each would belong to neither.
MAY_DIFFER = frozenset(
    {
        "workers",  # of checkpoints whose spec named them
        "cpus_per_worker",
        "gpus_per_worker",
        "training.backend",
        "training.zero_stage",
        "training.accumulation_steps",
        "training.evaluation_every",
        "training.evaluation_windows",
    }
)


class Description(Record):
    """What a checkpoint holds besides tensors."""

    format: Literal["optbench-checkpoint-1"] = "optbench-checkpoint-1"
    spec_key: str
    spec: dict[str, Any]
    step: int
    counters: dict[str, int]
    train_time_s: float
    evaluation_time_s: float


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Args:
        description: The step and the spec of the trial that saved it.
        weights: Parameter name -> the whole parameter.
        optimizer: What `NamedOptimizer.load_state_dict` takes.
    """

    description: Description
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]

    @property
    def step(self) -> int:
        return self.description.step

    @torch.no_grad()
    def restore_weights(self, model: nn.Module) -> None:
        """Into the whole model, before a backend takes it over."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self.weights[name])


def save(
    folder: Path,
    optimizer: NamedOptimizer,
    *,
    spec: TrialSpec,
    step: int,
    train_time_s: float,
    evaluation_time_s: float,
    backend: Backend,
) -> None:
    """Worker 0 writes what all workers hold together. A collective call, done when it is on disk.

    Args:
        folder: Made if missing; a checkpoint that is there is replaced.
        optimizer: It knows where the weights are, and its own state.
        spec: Of the trial.
        step: Optimizer steps done.
        train_time_s, evaluation_time_s: So far.
        backend: The gang.
    """
    weights, saved = optimizer.logical_weights(to=0), optimizer.state_dict(to=0)
    if backend.rank == 0:
        tensors = {f"weights/{name}": weight for name, weight in weights.items()}
        for name, entry in saved["state"].items():
            tensors.update({f"optimizer/{name}/{key}": value for key, value in entry.items()})
        description = Description(
            spec_key=spec.key,
            spec=spec.model_dump(mode="json"),
            step=step,
            counters=saved["counters"],
            train_time_s=train_time_s,
            evaluation_time_s=evaluation_time_s,
        )
        _write(folder / FILE_NAME, tensors, description)
    backend.sum_over_workers(torch.zeros(1, device=backend.device))  # nobody goes on before


def _write(path: Path, tensors: dict[str, Tensor], description: Description) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(tensors, temporary, metadata={"optbench": description.model_dump_json()})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load(folder: Path) -> Checkpoint:
    """Reads a checkpoint; its tensors stay on the CPU.

    Raises:
        UserError: There is none, or it is damaged or of another version of optbench.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise UserError(
            f"no checkpoint in {folder}: there is no {FILE_NAME}; give the folder that --save-to "
            "named"
        )
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("optbench", "")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        description = Description.model_validate_json(text)
    except (SafetensorError, ValidationError) as error:
        raise UserError(
            f"{path} is not a checkpoint of this version of optbench, or damaged: "
            f"{str(error).splitlines()[0]}; save it again"
        ) from None
    weights: dict[str, Tensor] = {}
    state: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "weights":
            weights[rest] = tensor
        else:
            name, _, entry = rest.rpartition("/")
            state.setdefault(name, {})[entry] = tensor
    # The options of the groups are those of the spec, which agrees.
    optimizer = {"state": state, "param_groups": [], "counters": description.counters}
    return Checkpoint(description, weights, optimizer)


def prepare(spec: TrialSpec, context: WorkerContext) -> Checkpoint | None:
    """Checks what the context asks for, before anything heavy, and loads where it resumes.

    Raises:
        UserError: The checkpoint is missing, of another trial, or past what is left to train;
            the step to stop at is not ahead; or this optimizer's state cannot be saved.
    """
    checkpoint = None if context.resume_from is None else load(Path(context.resume_from))
    if checkpoint is not None:
        _require_same_trial(checkpoint.description, spec, context.resume_from)
    done, last = 0 if checkpoint is None else checkpoint.step, spec.training.steps
    if done >= last:
        raise UserError(
            f"the checkpoint in {context.resume_from} is at step {done} of {last}: there is "
            "nothing left to train"
        )
    stop = context.stop_at_step
    if stop is not None and not done < stop <= last:
        raise UserError(f"cannot stop at step {stop}: choose one from {done + 1} to {last}")
    if stop is not None and context.save_to is None:
        raise UserError(f"to stop at step {stop} without saving loses the work: give --save-to")
    if context.save_to is not None:
        _require_saveable(spec, Path(context.save_to))
    return checkpoint


def _require_same_trial(
    description: Description, spec: TrialSpec, folder: str | Path | None
) -> None:
    saved, asked = flatten(description.spec), flatten(spec.model_dump(mode="json"))
    paths = [path for path in {**saved, **asked} if path not in MAY_DIFFER]
    changes = [
        f"{path} ({saved.get(path)!r} there, {asked.get(path)!r} here)"
        for path in paths
        if saved.get(path) != asked.get(path)
    ]
    if changes:
        raise UserError(
            f"the checkpoint in {folder} is of another trial: "
            + "; ".join(changes[:6])
            + (f"; and {len(changes) - 6} more" if len(changes) > 6 else "")
            + ". Only workers, backend, accumulation and evaluation may change, not the arithmetic "
            "(precision, dtypes, CPU or GPU): resume with the settings that saved it"
        )


def _require_saveable(spec: TrialSpec, folder: Path) -> None:
    if getattr(spec.optimizer, "kind", None) == "deepspeed_muon":
        raise UserError(
            "the state of deepspeed_muon lies inside DeepSpeed and cannot be saved by parameter "
            "name: save a variant of another kind, such as muon"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot save to {folder}: {error.strerror}: choose another folder"
        ) from None
