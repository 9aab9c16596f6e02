"""A user's class as an optimizer of ours: one on our base classes, or a plain one of torch."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.errors import UserError
from harness.verification.subjects import load_class
from optimizers import NamedOptimizer, OptimizerSpec
from optimizers.elementwise.base import (
    ElementwiseOptimizer,
    elementwise_options,
    route_elements,
)
from optimizers.fragments import Fragment
from optimizers.optimizer import Group
from optimizers.routing import Route

KIND = "external"
Named = Sequence[tuple[str, Tensor]]


def is_plain(path: str) -> bool:
    """Whether it is a `torch.optim.Optimizer` that sees whole weights only."""
    return not issubclass(load_class(path), NamedOptimizer)


def try_path(path: str, settings: Mapping[str, Any]) -> None:
    """Builds it on two small weights.

    Raises:
        UserError: it is no optimizer, or refuses its settings.
    """
    named = [("w", torch.nn.Parameter(torch.ones(4, 3))), ("b", torch.nn.Parameter(torch.ones(3)))]
    try:
        build_from_path(path, settings, named)
    except UserError:
        raise
    except Exception as error:
        given = ", ".join(f"{k}={v!r}" for k, v in settings.items())
        raise UserError(f"{path} refuses {given}: {type(error).__name__}: {error}") from error


def build_from_path(path: str, settings: Mapping[str, Any], named: Named) -> NamedOptimizer:
    """The optimizer that `package.module:ClassName` names.

    Raises:
        UserError: the class is no optimizer, or has no such setting.
    """
    cls = load_class(path)
    shapes = [(name, tuple(parameter.shape)) for name, parameter in named]
    if not issubclass(cls, torch.optim.Optimizer):
        raise UserError(
            f"{path} is no optimizer: name a subclass of torch.optim.Optimizer, "
            "optimizers.elementwise.base.ElementwiseOptimizer or optimizers.NamedOptimizer"
        )
    if not issubclass(cls, NamedOptimizer):
        return _Plain(cls, dict(settings), named)
    if not issubclass(cls, ElementwiseOptimizer):
        module = importlib.import_module(path.partition(":")[0])
        own = getattr(cls, "spec", None)
        if not (isinstance(own, type) and issubclass(own, OptimizerSpec)):
            raise UserError(
                f"{path}: a NamedOptimizer needs an attribute `spec`, a subclass of "
                "optimizers.OptimizerSpec, and `route` and `build` in its module"
            )
        spec = own.model_validate(dict(settings))
        built: NamedOptimizer = module.build(spec, named, routes=module.route(spec, shapes))
        return built
    known: Mapping[str, Any] = getattr(cls, "settings", {})
    if unknown := sorted(set(settings) - set(known) - {"lr"}):
        raise UserError(
            f"{path}: unknown settings {', '.join(unknown)}: known: lr, {', '.join(known)}"
        )
    options = {"weight_decay": 0.0, **known, **settings}
    return cls(
        named, routes=route_elements(KIND, shapes), options=elementwise_options(KIND, **options)
    )


class _Plain(NamedOptimizer):
    """A plain optimizer of torch, which sees whole weights and averaged gradients."""

    state_keys: Mapping[str, tuple[str, ...]] = {KIND: ()}

    def __init__(
        self, cls: type[torch.optim.Optimizer], settings: dict[str, Any], named: Named
    ) -> None:
        if "lr" not in inspect.signature(cls).parameters:
            raise UserError(f"{cls.__name__} takes no `lr`, which a schedule could set")
        routes = [Route(n, tuple(p.shape), KIND, KIND, "a plain optimizer") for n, p in named]
        super().__init__(named, routes=routes, options={KIND: {"lr": settings["lr"]}})
        self._inner = cls([p for _, p in named], **settings)

    def _prepare(self) -> str:
        if not all(self._is_everywhere(name) for name in self._fragments):
            raise ValueError("a plain torch optimizer sees whole weights only: use ddp")
        return super()._prepare()

    def _update_group(self, group: Group, fragments: Sequence[Fragment]) -> None:
        for parameter in group["params"]:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for inner in self._inner.param_groups:
            inner["lr"] = group["lr"]
        self._inner.step()

    def state_dict(self, *, to: int | None = None) -> dict[str, Any]:
        return {**super().state_dict(to=to), "inner": self._inner.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._inner.load_state_dict(state_dict["inner"])
