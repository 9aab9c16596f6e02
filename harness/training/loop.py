"""The training loop: a generator that yields a report at each evaluation and returns the outcome.

This is the only training code. A Ray worker advances it with `next()`; a scheduler stops a trial by
not asking again; `torchrun` or a test simply exhausts it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from harness.data import BatchHasher, BatchSampler, TokenDataset, open_dataset
from harness.study.code_version import code_sha256, code_version
from harness.study.trial import TrialSpec
from harness.training.arithmetic import arithmetic_of
from harness.training.backends.opening import open_backend
from harness.training.backends.protocol import Backend, WorkerContext
from harness.training.batches import BatchFeed
from harness.training.blocks import set_up_blocks
from harness.training.checkpoint.manifest import Manifest, Part, Times
from harness.training.checkpoint.resume import Checkpoint, can_be_saved, prepare
from harness.training.checkpoint.saving import Keeper, SaveFailed, labelled_ranges, save
from harness.training.checkpoint.storage import Folder, open_folder
from harness.training.expert_movement import ExpertMeter
from harness.training.metrics import (
    StepClock,
    evaluate,
    evaluate_on,
    now,
    peak_memory_bytes,
    reset_peak_memory,
)
from harness.training.preflight import FirstStep, check_gang, check_groups, check_wrapping
from harness.training.records import Outcome, OutcomeWord, Report
from models import build_model, initialize, parameters_sha256
from optimizers import build_optimizer, learning_rate_factor, routes

logger = logging.getLogger(__name__)


def train(spec: TrialSpec, context: WorkerContext) -> Generator[Report, None, Outcome]:
    """Trains one trial on this worker, from the start or from the context's checkpoint.

    Every worker of the gang yields the same losses at the same steps. The first report is that of
    step 0, equal for all variants of a seed, or the one after which the checkpoint was taken, as it
    was. What follows is what an undisturbed run yields, to the last bit where the workers and the
    backend are those that saved it, times excepted.

    Returns:
        the outcome: `completed`, `stopped` at the step that the context names, or `diverged` at the
        first step whose loss says so.

    Raises:
        UserError: the worker's place or its checkpoint does not fit the spec.
        PreflightError: a library does something else than the spec asks for.
        BatchError: other windows were fed than the seed and the data name.
    """
    started = time.perf_counter()
    resumed = prepare(spec, context)
    done = 0 if resumed is None else resumed.step
    last = context.stop_at_step or spec.training.steps
    dataset = open_dataset(context.dataset_path)
    context.pulse.beat("setting up", step=done)
    with open_backend(spec, context) as backend:
        run = TrialRun(spec, context, backend, dataset, started, resumed)
        keeper = Keeper(context, step=done, saves=can_be_saved(spec, context))
        yield run.report(done) if run.last_report is None else run.last_report
        run.first_step(done + 1)
        for step in range(done + 1, last + 1):
            if step > done + 1:
                context.pulse.beat("training", step=step)
                run.train_step(step)
            if run.reports_at(step) or step == last:
                yield run.report(step)
                if run.diverged_at_step is not None:
                    return run.outcome()
                if step < last and keeper.is_due(step, backend):
                    run.keep(keeper)
        if context.save_to is not None:
            run.save(open_folder(context.save_to), keep=None)
        return run.outcome()


class TrialRun:
    """One worker's model, optimizer, batches and clocks; the loop above says when."""

    def __init__(
        self,
        spec: TrialSpec,
        context: WorkerContext,
        backend: Backend,
        dataset: TokenDataset,
        started: float,
        resumed: Checkpoint | None,
    ) -> None:
        self.spec, self.backend, self.dataset, self.started = spec, backend, dataset, started
        self.pulse = context.pulse
        reset_peak_memory(backend.device)
        self.preflight = check_gang(backend, spec, context)
        # Now: until the trial ends somebody may have edited the files.
        self.code_version, self.code_sha256 = code_version(), code_sha256()
        torch.manual_seed(spec.seed)
        model = build_model(spec.model, vocab_size=dataset.vocab_size)
        initialize(model, seed=spec.seed)
        self.initial_sha256 = parameters_sha256(model)
        if resumed is not None:
            resumed.restore_weights(model)
        set_up_blocks(model, spec.training, device_type=backend.device.type)
        named = list(model.named_parameters())
        self.num_parameters = sum(parameter.numel() for _, parameter in named)
        self.routes = [asdict(route) for route in routes(spec.optimizer, named)]
        self.optimizer = backend.prepare(model, lambda ps: build_optimizer(spec.optimizer, ps))
        alone = context.num_workers == 1
        self.preflight.update(check_wrapping(backend.inspect(), spec, alone=alone))
        check_groups([name for name, p in named if p.requires_grad], self.optimizer)
        self.model = model
        self.sampler = BatchSampler(
            dataset.num_train_windows, batch_size=spec.training.batch_size, seed=spec.seed
        )
        accumulation = spec.training.accumulation_steps
        self.feed = BatchFeed(dataset, self.sampler, backend, accumulation_steps=accumulation)
        self.clock = StepClock(backend.device)
        # Of the attempts that led to the checkpoint; what was lost after it is not in them.
        self.earlier = Times() if resumed is None else resumed.manifest.times
        self.startup_time_s = self.earlier.startup
        self.evaluation_time_s = self.earlier.evaluation
        self.checkpoint_time_s = self.earlier.checkpoint
        self.clock.train_time_s = self.earlier.train
        self.experts = ExpertMeter(
            self.optimizer, backend, experts_per_token=getattr(spec.model, "experts_per_token", 1)
        )
        self.losses: list[Tensor] = []  # of the steps since the last look, on this worker
        self.train_losses: list[float] = []  # of the steps since the last report, over all workers
        self.gradient_norm: Tensor | None = None
        self.diverged_at_step: int | None = None
        self.last_report: Report | None = None
        if resumed is not None:
            self._resume(resumed)
        self.skipped_steps = self.optimizer.skipped_steps

    def _resume(self, resumed: Checkpoint) -> None:
        """The weights are there already. What the trial began with stays what the outcome names."""
        manifest = resumed.manifest
        self.last_report, self.preflight = manifest.report, manifest.preflight
        (batch, *_) = self.feed.planned(manifest.step)
        self.backend.rehearse(batch.inputs_BT, batch.targets_BT)
        resumed.restore_optimizer(self.optimizer, self.backend)
        resumed.close()

    def first_step(self, step: int) -> None:
        """The first step here, watched by the preflight. Counts as start-up."""
        self.pulse.beat("first step", step=step)
        watch = FirstStep(self.backend, self.model, self.optimizer)
        self.train_step(step)
        found = watch.check(self.spec)
        if self.last_report is None or self.last_report.step == 0:
            self.preflight.update(found)
        self.startup_time_s = self.earlier.startup + now(self.backend.device) - self.started
        self.clock.discard_interval()

    def train_step(self, step: int) -> None:
        training, backend = self.spec.training, self.backend
        self.clock.step_begins()
        self._set_learning_rates(step)
        micro_batches = self.feed.take(step - 1)
        loss = torch.zeros((), device=backend.device)
        for index, batch in enumerate(micro_batches):
            last = index == len(micro_batches) - 1
            output = backend.micro_step(batch.inputs_BT, batch.targets_BT, last=last)
            loss += output.cross_entropy.detach()
            self.experts.count(output.router_load, tokens=batch.targets_BT.numel())
        if step < training.steps:
            self.feed.prefetch(step)  # a GPU is busy with the backward pass now
        self.gradient_norm = backend.update(clip_norm=training.clip_norm)
        self.losses.append(loss / len(micro_batches))
        self.clock.step_ends()
        if self.optimizer.skipped_steps > self.skipped_steps:
            # Some gradient of some worker was not finite, which all know: was it the loss?
            self.skipped_steps = self.optimizer.skipped_steps
            self._look_at_losses(step)

    def reports_at(self, step: int) -> bool:
        every = self.spec.training.evaluation_every
        return step % every == 0 or self.diverged_at_step is not None

    def _set_learning_rates(self, step: int) -> None:
        schedule, steps = self.spec.schedule, self.spec.training.steps
        factor = learning_rate_factor(schedule, step=step - 1, total_steps=steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def report(self, step: int) -> Report:
        step_time_s = self.clock.end_interval()
        self.feed.check()
        self._look_at_losses(step)
        train_losses, self.train_losses = self.train_losses, []
        training = self.spec.training
        begin = now(self.backend.device)
        with self.optimizer.evaluation_weights(self.backend.publish_weights):
            evaluation = evaluate(
                self.backend,
                self.dataset,
                num_windows=training.evaluation_windows,
                pulse=self.pulse,
            )
            leaked_loss = self._leaked_loss()
        self.evaluation_time_s += now(self.backend.device) - begin
        if not math.isfinite(evaluation.loss) and self.diverged_at_step is None:
            self.diverged_at_step = step
        tokens_per_step = self.spec.tokens_per_step
        self.last_report = Report(
            step=step,
            tokens=step * tokens_per_step,
            train_loss=_finite(sum(train_losses) / len(train_losses)) if train_losses else None,
            validation_loss=_finite(evaluation.loss),
            validation_accuracy=evaluation.accuracy,
            learning_rate=self.optimizer.param_groups[0]["lr"] if step else 0.0,
            gradient_norm=_finite(float(self.gradient_norm))
            if self.gradient_norm is not None
            else None,
            train_time_s=self.clock.train_time_s,
            step_time_s=step_time_s,
            tokens_per_s=tokens_per_step / step_time_s if step_time_s else None,
            evaluation_time_s=self.evaluation_time_s,
            checkpoint_time_s=self.checkpoint_time_s,
            startup_time_s=self.startup_time_s,
            peak_memory_bytes=peak_memory_bytes(self.backend.device),
            router_load=evaluation.router_load,
            dead_experts=evaluation.dead_experts,
            counters=self._counters(),
            leaked_loss=leaked_loss,
            experts=self.experts.report(),
        )
        return self.last_report

    def _leaked_loss(self) -> float | None:
        """The loss on windows of the training text, where the study asks for it."""
        if not (count := self.spec.data.leaked_windows):
            return None
        take = self.dataset.leaked_windows
        found = evaluate_on(self.backend, take, num_windows=count, pulse=self.pulse)
        return _finite(found.loss)

    def _counters(self) -> dict[str, float]:
        """The optimizer's counts, and the bytes that a step sent per element of Muon's weights.

        DeepSpeed's Muon does not count its bytes; then there is no figure instead of a zero.
        """
        counters = {name: float(count) for name, count in self.optimizer.counters.items()}
        elements = sum(
            math.prod(route.shape) for route in self.optimizer.routes if route.algorithm == "muon"
        )
        steps = counters.get("optimizer_steps", 0.0)
        for name in ("bytes_sent", "bytes_floor"):
            if elements and steps and name in counters:
                counters[f"{name}_per_element"] = counters[name] / (steps * elements)
        return counters

    def _look_at_losses(self, step: int) -> None:
        """The losses of the steps until this one, averaged over the workers. A collective call."""
        if not self.losses:
            return
        summed = self.backend.sum_over_workers(torch.stack(self.losses).double())
        losses, self.losses = [x / self.backend.num_workers for x in summed.tolist()], []
        self.train_losses += losses
        training = self.spec.training
        for at, loss in enumerate(losses, start=step - len(losses) + 1):
            too_high = (
                training.divergence_loss is not None
                and at > training.divergence_after_step
                and loss > training.divergence_loss
            )
            if self.diverged_at_step is None and (too_high or not math.isfinite(loss)):
                self.diverged_at_step = at

    def keep(self, keeper: Keeper) -> None:
        """The checkpoint after the last report. One that fails costs a warning and no trial."""
        assert self.last_report is not None, "a checkpoint comes after a report"
        assert keeper.folder is not None, "is_due() said so"
        before = self.checkpoint_time_s
        try:
            self.save(keeper.folder, keep=keeper.keep)
        except SaveFailed as error:
            logger.warning("no checkpoint of step %d: %s", self.last_report.step, error)
        keeper.saved(self.last_report.step, took_s=self.checkpoint_time_s - before)

    def save(self, folder: Folder, *, keep: int | None) -> None:
        """The state after the last report. A collective call; see `checkpoint.saving.save`."""
        assert self.last_report is not None, "a checkpoint comes after a report"
        self.pulse.beat("saving")
        begin, before = now(self.backend.device), self.checkpoint_time_s

        def describe(counters: Sequence[dict[str, int]], parts: Sequence[Part]) -> Manifest:
            self.checkpoint_time_s = before + now(self.backend.device) - begin
            return self._manifest(counters, parts)

        try:
            save(
                folder,
                labelled_ranges(self.optimizer, self.backend),
                step=self.last_report.step,
                counters=self.optimizer.counters,
                backend=self.backend,
                describe=describe,
                keep=keep,
            )
        finally:
            self.checkpoint_time_s = before + now(self.backend.device) - begin

    def _manifest(self, counters: Sequence[dict[str, int]], parts: Sequence[Part]) -> Manifest:
        assert self.last_report is not None, "a checkpoint comes after a report"
        return Manifest(
            spec_key=self.spec.key,
            spec=self.spec.model_dump(mode="json"),
            code_version=self.code_version,
            code_sha256=self.code_sha256,
            device_type=self.backend.device.type,
            backend=self.spec.training.backend,
            step=self.last_report.step,
            report=self.last_report,
            times=Times(
                train=self.clock.train_time_s,
                evaluation=self.evaluation_time_s,
                startup=self.startup_time_s,
                checkpoint=self.checkpoint_time_s,
                wall=self._wall_time_s(),
            ),
            counters=tuple(counters),
            updates=self.optimizer.updates,
            preflight=self.preflight,
            parts=tuple(parts),
        )

    def _wall_time_s(self) -> float:
        return self.earlier.wall + time.perf_counter() - self.started

    def outcome(self) -> Outcome:
        assert self.last_report is not None, "the outcome comes after the last report"
        last, at = self.last_report, self.diverged_at_step
        word: OutcomeWord = "completed"
        reason = None
        if at is not None:
            word, reason = "diverged", f"the loss diverged at step {at}"
        elif last.step < self.spec.training.steps:
            word, reason = "stopped", f"asked to stop at step {last.step}"
        return Outcome(
            outcome=word,
            reason=reason,
            step=last.step,
            tokens=last.tokens,
            validation_loss=last.validation_loss,
            validation_accuracy=last.validation_accuracy,
            diverged_at_step=at,
            initial_parameters_sha256=self.initial_sha256,
            batches_sha256=self._hash_batches(),
            arithmetic=arithmetic_of(self.spec, self.optimizer, self.backend.device),
            code_version=self.code_version,
            code_sha256=self.code_sha256,
            num_parameters=self.num_parameters,
            routes=self.routes,
            preflight=self.preflight,
            wall_time_s=self._wall_time_s(),
        )

    def _hash_batches(self) -> str:
        """SHA-256 of the data and of the batches of the whole schedule, also if it ended early.

        Every report has checked that the windows fed until then were these.
        """
        hasher = BatchHasher(self.dataset.manifest.sha256)
        for step in range(self.spec.training.steps):
            hasher.update(self.sampler.indices(step))
        return hasher.hexdigest()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
