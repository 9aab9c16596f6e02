"""An optimizer that is not ours is tried on a handful of small tensors before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import Parameter

from optimizers.external.building import build, class_of, needs_whole_parameters, route
from optimizers.external.source import source_of
from optimizers.external.spec import ExternalSpec
from optimizers.external.tree import Unsaveable
from optimizers.optimizer import NamedOptimizer

SHAPES = {"table.weight": (12, 8), "matrix.weight": (8, 8), "stack": (3, 8, 4), "scale": (8,)}
STEPS = 12
"""RAdam moves by its rate only after 5 steps, and some look at a second clock every 10."""


@dataclass(frozen=True)
class Found:
    """What trying it told.

    Args:
        source: See `source_of`.
        needs_whole_parameters: It runs under ddp only.
        not_resumable: Why its trials have no checkpoints; None when they have.
    """

    source: str
    needs_whole_parameters: bool
    not_resumable: str | None


def try_out(spec: ExternalSpec) -> Found:
    """Builds it, takes steps, and goes on from its saved state.

    Raises:
        ValueError: What it cannot do, beginning with the key of the study file.
    """
    return _try_out(spec.model_dump_json())


def not_resumable(spec: ExternalSpec) -> str | None:
    """See `Found`; tried once a process for all learning rates."""
    return try_out(spec.model_copy(update={"lr": 1e-3})).not_resumable


@cache
def _try_out(text: str) -> Found:
    spec = ExternalSpec.model_validate_json(text)
    cls = class_of(spec)
    with torch.random.fork_rng(devices=[]):  # trying it draws none of the trial's random numbers
        weights, optimizer = _start(spec)
        try:
            _take_steps(optimizer, weights, first=0)
        except Exception as error:
            raise ValueError(
                f"path: {spec.path} fails in its step: {type(error).__name__}: {error}; a trial "
                "calls `step()` once, without a closure, after one backward pass"
            ) from error
        if not all(bool(weight.isfinite().all()) for weight in weights.values()):
            raise ValueError(
                f"path: {spec.path} makes weights that are not finite in {STEPS} steps"
            )
        _require_rate(spec, weights)
        reason = _difference_when_resumed(spec, weights, optimizer)
    return Found(source_of(spec.path.partition(":")[0]), needs_whole_parameters(cls), reason)


def _start(
    spec: ExternalSpec, weights: dict[str, Tensor] | None = None
) -> tuple[dict[str, Parameter], NamedOptimizer]:
    generator = torch.Generator().manual_seed(0)
    start = weights or {n: torch.randn(s, generator=generator) for n, s in SHAPES.items()}
    named = {name: Parameter(weight.detach().clone()) for name, weight in start.items()}
    routes = route(spec, [(name, tuple(p.shape)) for name, p in named.items()])
    return named, build(spec, list(named.items()), routes=routes)


def _take_steps(
    optimizer: NamedOptimizer, named: dict[str, Parameter], *, first: int, factor: float = 1.0
) -> None:
    for gradients in _gradients(first):
        for name, gradient in gradients.items():
            named[name].grad = gradient
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        optimizer.step()


def _gradients(first: int) -> Iterator[dict[str, Tensor]]:
    for step in range(first, first + STEPS):
        torch.manual_seed(step)
        generator = torch.Generator().manual_seed(step + 1)
        yield {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def _require_rate(spec: ExternalSpec, moved: dict[str, Parameter]) -> None:
    weights, optimizer = _start(spec)
    _take_steps(optimizer, weights, first=0, factor=0.5)
    if all(torch.equal(weights[name], moved[name]) for name in SHAPES):
        raise ValueError(
            f"path: {spec.path} goes as far at half the learning rate: it does not follow a "
            "schedule, which reads `lr` of its groups at every step"
        )


def _difference_when_resumed(
    spec: ExternalSpec, weights: dict[str, Parameter], optimizer: NamedOptimizer
) -> str | None:
    """Whether one that goes on from a saved state takes the same steps, to the last bit."""
    try:
        state = optimizer.state_dict()
    except Unsaveable as error:
        return f"its state holds {error}"
    again, resumed = _start(spec, dict(weights))
    try:
        resumed.load_state_dict(state)
        _take_steps(resumed, again, first=STEPS)
    except Exception as error:
        return f"it fails after its state was loaded ({type(error).__name__}: {error})"
    _take_steps(optimizer, weights, first=STEPS)
    if any(not torch.equal(again[name], weights[name]) for name in SHAPES):
        return "from a saved state it takes other steps: it keeps something elsewhere"
    return None
