"""A trial goes on from a checkpoint, with any number of workers and on any backend.

Batches are indexed by the step, so of the data only the step has to be kept.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn

from harness.errors import UserError
from harness.study.trial import TrialSpec
from harness.training.backends.protocol import Backend, WorkerContext
from harness.training.checkpoint import manifest as manifests
from harness.training.checkpoint.manifest import Damaged, Manifest, differences, step_of
from harness.training.checkpoint.newest import newest_valid
from harness.training.checkpoint.parts import LogicalTensors
from harness.training.checkpoint.saving import label_of, random_states
from harness.training.checkpoint.storage import Folder, LocalFolder, open_folder
from optimizers import DeepSpeedMuonSpec, ExternalSpec, NamedOptimizer

logger = logging.getLogger(__name__)

OLD_FILE_NAME = "checkpoint.safetensors"


class Checkpoint:
    """A checkpoint that is whole, its tensors read when they are asked for.

    From another host each part is copied once, and the copies are what is checked.

    Args:
        folder: Its own.
        manifest: Read from it.

    Raises:
        Damaged: a part is not what was written.
    """

    def __init__(self, folder: Folder, manifest: Manifest) -> None:
        self.manifest = manifest
        self._scratch = Path(tempfile.mkdtemp(prefix="optbench-resume-"))
        try:
            manifests.check_sizes(folder, manifest)
            files = [folder.local(part.file, self._scratch) for part in manifest.parts]
            manifests.check_hashes(LocalFolder(files[0].parent), manifest)
            self._tensors = LogicalTensors(files)
        except BaseException:
            shutil.rmtree(self._scratch)
            raise

    @property
    def step(self) -> int:
        return self.manifest.step

    @torch.no_grad()
    def restore_weights(self, model: nn.Module) -> None:
        """Into the whole model, before a backend takes it over."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self._tensors.read(label_of(name, None)).view_as(parameter))

    def restore_optimizer(self, optimizer: NamedOptimizer, backend: Backend) -> None:
        """What this worker keeps of the state, its counters, and its random numbers.

        With another number of workers the counters are those of worker 0, and the random numbers
        stay those of the seed.
        """
        manifest = self.manifest
        same = manifest.num_workers == backend.num_workers
        optimizer.load_pieces(
            lambda name, key, held: self._tensors.read(label_of(name, key), held),
            updates=manifest.updates,
            counters=manifest.counters[backend.rank if same else 0],
        )
        for label in random_states(backend) if same else ():
            state = self._tensors.read(label)
            if label.endswith("cuda"):
                torch.cuda.set_rng_state(state, backend.device)
            else:
                torch.set_rng_state(state)

    def close(self) -> None:
        """Unmaps the files, and drops what was copied here."""
        del self._tensors
        shutil.rmtree(self._scratch, ignore_errors=True)


def load(where: str | Path | Folder, spec: TrialSpec) -> Checkpoint:
    """The checkpoint in a folder, or the newest of this trial among those in the folder.

    Raises:
        UserError: There is none, or it is damaged, of another trial or another version of optbench.
    """
    folder = open_folder(where)
    steps = [name for name in folder.names() if step_of(name) is not None]
    if folder.size(manifests.FILE_NAME) is None and steps:
        found = newest_valid(folder, spec)
        # Without one, the newest says what is wrong.
        newest = max(steps, key=lambda name: step_of(name) or 0)
        folder = folder.child(newest if found is None else manifests.folder_name(found.step))
    elif folder.size(manifests.FILE_NAME) is None:
        raise UserError(_no_checkpoint(folder))
    try:
        manifest = manifests.read_manifest(folder)
        _require_same_trial(manifest, spec, folder.where)
        return Checkpoint(folder, manifest)
    except (Damaged, OSError, SafetensorError) as error:
        raise UserError(
            f"the checkpoint {folder.where} cannot be used, it is damaged or not of this version "
            f"of optbench: {error}; resume from an older one, or save it again"
        ) from None


def _no_checkpoint(folder: Folder) -> str:
    if folder.size(OLD_FILE_NAME) is not None:
        return (
            f"{folder.where} holds a checkpoint of optbench 0.1.0 ({OLD_FILE_NAME}), which this "
            "version does not read: finish that trial with 0.1.0, or start it again"
        )
    return (
        f"no checkpoint in {folder.where}: it has neither a {manifests.FILE_NAME} nor folders such "
        f"as {manifests.folder_name(40)}; give the folder that --save-to named"
    )


def _require_same_trial(manifest: Manifest, spec: TrialSpec, where: str) -> None:
    if changes := differences(manifest, spec):
        raise UserError(
            f"the checkpoint in {where} is of another trial: "
            + "; ".join(changes[:6])
            + (f"; and {len(changes) - 6} more" if len(changes) > 6 else "")
            + ". Only workers, backend, accumulation and evaluation may change, not the arithmetic "
            "(precision, dtypes, CPU or GPU): resume with the settings that saved it"
        )


def prepare(spec: TrialSpec, context: WorkerContext) -> Checkpoint | None:
    """Checks what the context asks for, before anything heavy, and opens what it resumes from.

    Raises:
        UserError: The checkpoint is missing, of another trial, or past what is left to train;
            the step to stop at is not ahead; or this optimizer's state cannot be saved.
    """
    checkpoint = None if context.resume_from is None else load(context.resume_from, spec)
    try:
        _check(spec, context, None if checkpoint is None else checkpoint.manifest)
    except UserError:
        if checkpoint is not None:
            checkpoint.close()
        raise
    return checkpoint


def _check(spec: TrialSpec, context: WorkerContext, resumed: Manifest | None) -> None:
    done, last = 0 if resumed is None else resumed.step, spec.training.steps
    if done >= last:
        raise UserError(
            f"the checkpoint in {context.resume_from} is at step {done} of {last}: there is "
            "nothing left to train"
        )
    device_type = "cuda" if context.gpus else "cpu"
    if resumed is not None and resumed.device_type != device_type:
        raise UserError(
            f"the checkpoint in {context.resume_from} was trained on {resumed.device_type} and "
            f"this worker is to train on {device_type}, which is other arithmetic: set "
            "resources.gpus_per_worker as it was"
        )
    stop = context.stop_at_step
    if stop is not None and not done < stop <= last:
        raise UserError(f"cannot stop at step {stop}: choose one from {done + 1} to {last}")
    if stop is not None and context.save_to is None:
        raise UserError(f"to stop at step {stop} without saving loses the work: give --save-to")
    if context.save_to is not None:
        _require_saveable(spec, context.save_to)


def not_saved_because(spec: TrialSpec) -> str | None:
    """Why the state of this optimizer cannot be saved by parameter name; None where it can."""
    if isinstance(spec.optimizer, DeepSpeedMuonSpec):
        return "the state of deepspeed_muon lies inside DeepSpeed, under no parameter's name"
    if isinstance(spec.optimizer, ExternalSpec):
        from optimizers.external.trying import not_resumable

        reason = not_resumable(spec.optimizer)
        return None if reason is None else f"{spec.optimizer.path} cannot go on from one: {reason}"
    return None


def can_be_saved(spec: TrialSpec, context: WorkerContext) -> bool:
    """Whether a trial is saved on its way. It says so where it was asked to be and is not."""
    reason = not_saved_because(spec)
    if reason is not None and context.checkpoints is not None and context.rank == 0:
        logger.warning("no checkpoints of this trial: %s", reason)
    return reason is None


def _require_saveable(spec: TrialSpec, where: str | Path | Folder) -> None:
    if (refusal := not_saved_because(spec)) is not None:
        raise UserError(f"{refusal}: save a variant of another kind, such as muon")
    try:
        open_folder(where).temporary().unlink()
    except OSError as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot save to {where}: {reason}: choose another folder") from None
