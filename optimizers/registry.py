"""The optimizers by name. To add one: write its file, add its line."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optimizers.elementwise.schedule_free_spec import ScheduleFreeSpec
from optimizers.elementwise.specs import LionSpec
from optimizers.external.spec import ExternalSpec
from optimizers.peers.specs import DeepSpeedMuonSpec, TorchMuonSpec
from optimizers.routing import Route
from optimizers.specs import AdamWSpec, MuonSpec, OptimizerSpec

if TYPE_CHECKING:
    from torch import Tensor

    from optimizers.optimizer import NamedOptimizer


@dataclass(frozen=True)
class OptimizerEntry:
    """One kind of optimizer.

    Args:
        spec: The class of its specification. Kept apart from the algorithm so that a study file is
            validated without importing torch, which takes longer than all the rest.
        module: Where its `route(spec, named_shapes) -> routes` and its
            `build(spec, named_parameters, routes=...) -> optimizer` are.
    """

    spec: type[OptimizerSpec]
    module: str

    @classmethod
    def in_one_file(cls, module: str, spec: str) -> OptimizerEntry:
        """Settings beside the algorithm: one file less, but reading any study imports torch."""
        return cls(getattr(importlib.import_module(module), spec), module)


REGISTRY: dict[str, OptimizerEntry] = {
    "adamw": OptimizerEntry(AdamWSpec, "optimizers.adamw"),
    "muon": OptimizerEntry(MuonSpec, "optimizers.muon"),
    "lion": OptimizerEntry(LionSpec, "optimizers.elementwise.lion"),
    "schedule_free": OptimizerEntry(ScheduleFreeSpec, "optimizers.elementwise.schedule_free"),
    "torch_muon": OptimizerEntry(TorchMuonSpec, "optimizers.peers.torch_muon"),
    "deepspeed_muon": OptimizerEntry(DeepSpeedMuonSpec, "optimizers.peers.deepspeed_muon"),
    "external": OptimizerEntry(ExternalSpec, "optimizers.external.building"),
}


def routes(spec: OptimizerSpec, named_parameters: Iterable[tuple[str, Tensor]]) -> list[Route]:
    """Which algorithm updates which parameter, and why; one route for each trainable parameter.

    Raises:
        ValueError: For a pattern that matches nothing and a parameter that nobody claims.
    """
    named_shapes = [(name, tuple(p.shape)) for name, p in named_parameters]
    found: list[Route] = _module(spec).route(spec, named_shapes)
    return found


def build_optimizer(
    spec: OptimizerSpec, named_parameters: Iterable[tuple[str, Tensor]], **options: Any
) -> NamedOptimizer:
    """One optimizer object for all parameters that require a gradient.

    Args:
        spec: A specification of a registered kind.
        named_parameters: `model.named_parameters()`.
        options: Passed to the kind's build function.

    Returns:
        A `torch.optim.Optimizer` whose groups carry `name`, `lr` and `initial_lr`.

    Raises:
        ValueError: When nothing requires a gradient, or the routes are wrong (see `routes`).
    """
    trainable = [(name, p) for name, p in named_parameters if p.requires_grad]
    if not trainable:
        raise ValueError("no parameter requires a gradient: there is nothing to optimize")
    optimizer: NamedOptimizer = _module(spec).build(
        spec, trainable, routes=routes(spec, trainable), **options
    )
    return optimizer


def _module(spec: OptimizerSpec) -> Any:
    kind = getattr(spec, "kind", None)
    if kind not in REGISTRY:
        raise ValueError(f"unknown optimizer kind {kind!r}: choose {', '.join(REGISTRY)}")
    return importlib.import_module(REGISTRY[kind].module)
