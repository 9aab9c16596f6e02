"""The optimizers by name. To add one: write its file, add its line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from optimizers import adamw, muon, muon_spec, torch_muon
from optimizers.optimizer import NamedOptimizer
from optimizers.routing import Route
from optimizers.spec import OptimizerSpec


@dataclass(frozen=True)
class OptimizerEntry:
    """One kind of optimizer.

    Args:
        spec: The class of its specification.
        route: `(spec, named_shapes) -> routes`.
        build: `(spec, named_parameters, routes=...) -> optimizer`.
    """

    spec: type[OptimizerSpec]
    route: Callable[..., list[Route]]
    build: Callable[..., NamedOptimizer]


REGISTRY: dict[str, OptimizerEntry] = {
    "adamw": OptimizerEntry(adamw.AdamWSpec, adamw.route, adamw.build),
    "muon": OptimizerEntry(muon_spec.MuonSpec, muon.route, muon.build),
    "torch_muon": OptimizerEntry(torch_muon.TorchMuonSpec, torch_muon.route, torch_muon.build),
}


def routes(spec: OptimizerSpec, named_parameters: Iterable[tuple[str, Tensor]]) -> list[Route]:
    """Which algorithm updates which parameter, and why; one route for each trainable parameter.

    Raises:
        ValueError: For a pattern that matches nothing and a parameter that nobody claims.
    """
    return _entry(spec).route(spec, [(name, tuple(p.shape)) for name, p in named_parameters])


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
    entry = _entry(spec)
    return entry.build(spec, trainable, routes=routes(spec, trainable), **options)


def _entry(spec: OptimizerSpec) -> OptimizerEntry:
    kind = getattr(spec, "kind", None)
    if kind not in REGISTRY:
        raise ValueError(f"unknown optimizer kind {kind!r}: choose {', '.join(REGISTRY)}")
    return REGISTRY[kind]
