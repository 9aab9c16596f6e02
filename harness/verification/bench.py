"""A tiny real model under a real backend, and the steps that the checks take with it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.data import DataConfig
from harness.study.settings import TrainingConfig
from harness.study.trial import TrialSpec
from harness.training.backends.opening import open_backend
from harness.training.backends.protocol import Backend, WorkerContext
from harness.training.blocks import measure_attention
from harness.verification.places import BACKENDS, Place
from harness.verification.subjects import Subject
from models import ModelConfig, ModelOutput, initialize
from models.transformer import MoETransformer
from optimizers import LearningRateSchedule, NamedOptimizer

VOCABULARY, TOKENS, SEQUENCES = 37, 8, 8
STEPS = 4
LOSS_FACTORS = (1.0, 0.5, 3.0, 1.0)
"""Of the steps: gradients of different length, so that to clip or not makes a difference."""

CLIP_NORM = 0.1
"""Below the raw norm of every step, which is 0.4 and more."""

FROZEN = "blocks.0.attention_norm.weight"
SPARE = "spare"

# Sizes that no number of workers divides; six experts, of which some see no token of a worker.
MODEL = ModelConfig(
    hidden_size=12,
    num_layers=2,
    num_heads=2,
    feed_forward_size=10,
    num_experts=6,
    experts_per_token=1,
    tie_embeddings=True,
)

Weights = dict[str, Tensor]


class ProbeModel(MoETransformer):
    """The transformer that trials train, whose loss can be scaled, and with a weight to spare."""

    def __init__(self, *, spare: bool = False) -> None:
        super().__init__(MODEL, vocab_size=VOCABULARY)
        self.loss_factor = 1.0
        if spare:
            self.spare = nn.Parameter(torch.empty(7, 5))

    def forward(self, tokens_BT: Tensor, targets_BT: Tensor) -> ModelOutput:
        output = super().forward(tokens_BT, targets_BT)
        return output._replace(loss=output.loss * self.loss_factor)


@dataclass(frozen=True)
class Trained:
    """What some steps left.

    Args:
        start, weights: Before and after all steps, whole weights.
        first: After the first step.
        norms: What each update reported.
        updates: Parameter -> its number of updates.
    """

    start: Weights
    first: Weights
    weights: Weights
    norms: list[float]
    updates: dict[str, int]
    counters: dict[str, int]


@dataclass(frozen=True)
class Saved:
    """What a checkpoint after half of the steps holds.

    Args:
        kept: Dtypes of the state where it lies, before it is gathered.
    """

    weights: Weights
    state: dict[str, Any]
    kept: dict[str, torch.dtype]


class Session:
    """An open backend with its model and optimizer."""

    def __init__(self, backend: Backend, model: ProbeModel, optimizer: NamedOptimizer) -> None:
        self.backend, self.model, self.optimizer = backend, model, optimizer
        self.accumulation, self.clip_norm = 1, CLIP_NORM

    def micro_steps(self, step: int, *, factor: float | None = None) -> None:
        """Forward and backward of this worker's rows of a batch.

        Args:
            factor: On the loss of this worker; by default that of the step.
        """
        self.model.loss_factor = LOSS_FACTORS[step % STEPS] if factor is None else factor
        for index in range(self.accumulation):
            last = index == self.accumulation - 1
            self.backend.micro_step(*self.rows(step, index), last=last)

    def rows(self, step: int, index: int = 0) -> tuple[Tensor, Tensor]:
        """This worker's tokens and targets of a micro-batch."""
        tokens, targets = batch(step)
        workers = self.backend.num_workers
        rows = slice(index * workers + self.backend.rank, None, workers * self.accumulation)
        return tokens[rows], targets[rows]

    def step(self, step: int, *, factor: float | None = None, lr_factor: float = 1.0) -> float:
        """One step of training; the norm that the update reported."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * lr_factor
        self.micro_steps(step, factor=factor)
        return float(self.backend.update(clip_norm=self.clip_norm))

    def rehearse(self) -> None:
        """As a trial does that goes on from a checkpoint."""
        self.backend.rehearse(*self.rows(0))

    def weights(self) -> Weights:
        """What the optimizer updates, whole. A collective call."""
        held, answers = self.optimizer.held_weights(), self.optimizer.counted_ranges()
        shapes = {route.name: route.shape for route in self.optimizer.routes}
        whole = {name: torch.zeros(shape) for name, shape in shapes.items()}
        for name, (start, stop) in answers.items():
            if start < stop:
                whole[name].view(-1)[start:stop] = held[name]
        for tensor in whole.values():
            self.backend.sum_over_workers(tensor)
        return whole

    def forward_weights(self) -> Weights:
        """What the forward pass reads here, copied."""
        return {name: w.clone() for name, w in self.backend.forward_weights().items()}

    def state(self) -> dict[str, Any]:
        """The optimizer's state dict, copied. A collective call."""
        return copy.deepcopy(self.optimizer.state_dict())

    def kept_dtypes(self) -> dict[str, torch.dtype]:
        """Of the state where it lies, before it is gathered."""
        return {
            f"{piece.name}.{piece.key}": piece.elements.dtype
            for piece in self.optimizer.answered_pieces()
            if piece.key is not None
        }


class Bench:
    """One worker in one place, which opens backends for the checks.

    Args:
        ports: Where the gang meets, another for each opening; the same on all workers.
        alone: The same optimizer in one process, in this worker: the reference. By default itself.
    """

    def __init__(
        self,
        subject: Subject,
        place: Place,
        *,
        rank: int = 0,
        ports: Iterator[int] | None = None,
        alone: Bench | None = None,
    ) -> None:
        self.subject, self.place, self.rank, self.ports = subject, place, rank, ports
        self.alone = alone or self
        self._trained: dict[Any, Trained] = {}
        self._half: Saved | None = None

    @contextmanager
    def open(
        self,
        *,
        accumulation: int = 1,
        clip_norm: float = CLIP_NORM,
        weights: Mapping[str, Tensor] | None = None,
        spare: bool = False,
        frozen: bool = False,
    ) -> Iterator[Session]:
        """A backend with a new model and optimizer.

        Args:
            weights: To begin with; by default those of the seed.
        """
        port = next(self.ports) if self.ports is not None else 0
        context = WorkerContext(
            Path(),
            rank=self.rank,
            num_workers=self.place.workers,
            local_rank=self.rank,
            master_port=port,
        )
        spec = trial(self.subject, self.place, accumulation=accumulation, clip_norm=clip_norm)
        torch.manual_seed(0)
        model = ProbeModel(spare=spare)
        initialize(model, seed=0)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(not (frozen and name == FROZEN))
                if weights is not None:
                    parameter.copy_(weights[name])
        with open_backend(spec, context) as backend:
            optimizer = backend.prepare(model, self.subject.build)
            measure_attention(model, optimizer)
            session = Session(backend, model, optimizer)
            session.accumulation, session.clip_norm = accumulation, clip_norm
            yield session

    def train(
        self, steps: int = STEPS, *, accumulation: int = 1, clip_norm: float = CLIP_NORM
    ) -> Trained:
        """Steps from the start; each way is trained once and remembered."""
        key = (steps, accumulation, clip_norm)
        if key not in self._trained:
            self._trained[key] = self.train_anew(
                steps, accumulation=accumulation, clip_norm=clip_norm
            )
        return self._trained[key]

    def half(self) -> Saved:
        """Half of the steps, saved; trained once and remembered."""
        if self._half is None:
            with self.open() as session:
                for step in range(STEPS // 2):
                    session.step(step)
                self._half = Saved(session.weights(), session.state(), session.kept_dtypes())
        return self._half

    def train_anew(
        self, steps: int = STEPS, *, accumulation: int = 1, clip_norm: float = CLIP_NORM
    ) -> Trained:
        with self.open(accumulation=accumulation, clip_norm=clip_norm) as session:
            start = session.weights()
            norms = [session.step(0)]
            first = session.weights()
            norms += [session.step(step) for step in range(1, steps)]
            return Trained(
                start,
                first,
                session.weights(),
                norms,
                session.optimizer.updates,
                dict(session.optimizer.counters),
            )


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Tokens and targets of a step: `(SEQUENCES, TOKENS)` each, the same everywhere."""
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(VOCABULARY, (SEQUENCES, TOKENS + 1), generator=generator)
    return tokens[:, :-1], tokens[:, 1:]


def trial(subject: Subject, place: Place, *, accumulation: int, clip_norm: float) -> TrialSpec:
    """What the backends read."""
    backend, stage = BACKENDS[place.backend] if place.workers > 1 else ("ddp", 0)
    training = TrainingConfig.model_validate(
        {
            "steps": STEPS,
            "batch_size": SEQUENCES,
            "accumulation_steps": accumulation,
            "backend": backend,
            "zero_stage": stage,
            "clip_norm": clip_norm,
        }
    )
    return TrialSpec.model_construct(
        data=DataConfig.model_construct(),
        data_sha256="",
        model=MODEL,
        optimizer=subject.spec,
        schedule=LearningRateSchedule(),
        training=training,
        seed=0,
    )
