"""Builds an optimizer that is not ours: a wrapped one of torch, or one on our base classes."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor

from optimizers.elementwise.base import ElementwiseOptimizer, elementwise_group
from optimizers.external.source import load_class, load_module, source_of
from optimizers.external.spec import ExternalSpec
from optimizers.external.wrapped import Wrapped
from optimizers.optimizer import Group, NamedOptimizer
from optimizers.routing import Route
from optimizers.specs import OptimizerSpec

DECAY = "weight_decay"


def route(spec: ExternalSpec, named_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> list[Route]:
    """Everything to it; or the routes of the module, for a whole `NamedOptimizer`."""
    cls = class_of(spec)
    if is_of_named_kind(cls):
        found: list[Route] = _module(spec).route(own_spec(spec, cls), named_shapes)
        return found
    decays = DECAY in known_settings(cls)
    return [
        Route(
            name,
            shape,
            "external",
            elementwise_group("external", shape) if decays else "external",
            f"the optimizer is {spec.path}",
        )
        for name, shape in named_shapes
    ]


def build(
    spec: ExternalSpec, named_parameters: Sequence[tuple[str, Tensor]], *, routes: Sequence[Route]
) -> NamedOptimizer:
    """The optimizer that the path names.

    Raises:
        ValueError: It cannot be imported, is other code than the study's, refuses its settings, or
            is nothing that can be built.
    """
    cls = class_of(spec)
    if is_of_named_kind(cls):
        built: NamedOptimizer = _module(spec).build(
            own_spec(spec, cls), named_parameters, routes=routes
        )
        return built
    settings = checked_settings(spec, cls)
    groups = dict.fromkeys(route.group for route in routes)
    options = {
        group: {**settings, "lr": spec.lr} | ({DECAY: 0.0} if group.endswith("_no_decay") else {})
        for group in groups
    }
    if issubclass(cls, ElementwiseOptimizer):
        return cls(named_parameters, routes=routes, options=options)
    constructor: Callable[..., torch.optim.Optimizer] = cls
    lasting = {k: {"lr": o["lr"], **_only_decay(o)} for k, o in options.items()}

    def make(groups: list[Group]) -> torch.optim.Optimizer:
        try:
            return constructor(groups, lr=spec.lr, **settings)
        except Exception as error:
            raise ValueError(
                f"settings: {spec.path} refuses {spec.settings or 'none at all'}: "
                f"{type(error).__name__}: {error}; it takes {', '.join(known_settings(cls))}"
            ) from error

    return Wrapped(named_parameters, routes=routes, options=lasting, make=make)


def _only_decay(options: Group) -> Group:
    return {DECAY: options[DECAY]} if DECAY in options else {}


def class_of(spec: ExternalSpec) -> type[torch.optim.Optimizer]:
    """The class, if it is code that the study means and something to build.

    Raises:
        ValueError: It is not.
    """
    module = spec.path.partition(":")[0]
    cls = load_class(spec.path)
    if not issubclass(cls, torch.optim.Optimizer) or cls in (
        torch.optim.Optimizer,
        NamedOptimizer,
        ElementwiseOptimizer,
    ):
        raise ValueError(
            f"path: {spec.path} is no optimizer: name a subclass of torch.optim.Optimizer, "
            "optimizers.elementwise.base.ElementwiseOptimizer or optimizers.NamedOptimizer"
        )
    if spec.source is not None and (here := source_of(module)) != spec.source:
        raise ValueError(
            f"path: {module} is {here} on this host and the study was planned with {spec.source}: "
            "give every host the same code, or start the changed optimizer as a study of its own"
        )
    return cls


def needs_whole_parameters(cls: type) -> bool:
    """Whether it can run under ddp only."""
    return not issubclass(cls, NamedOptimizer)


def is_of_named_kind(cls: type) -> TypeGuard[type[NamedOptimizer]]:
    """A whole `NamedOptimizer`, whose module has `route` and `build`."""
    return issubclass(cls, NamedOptimizer) and not issubclass(cls, ElementwiseOptimizer)


def known_settings(cls: type) -> dict[str, Any]:
    """Each setting with its default; `inspect.Parameter.empty` where it has to be given."""
    if issubclass(cls, ElementwiseOptimizer):
        return dict(cls.settings)
    taken = inspect.signature(cls).parameters.values()
    named = [p for p in taken if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return {p.name: p.default for p in named[1:] if p.name != "lr"}


def checked_settings(spec: ExternalSpec, cls: type) -> dict[str, Any]:
    """The settings as the class takes them.

    Raises:
        ValueError: It has no such setting, or no learning rate.
    """
    known = known_settings(cls)
    is_ours = issubclass(cls, ElementwiseOptimizer)
    taken = {} if is_ours else inspect.signature(cls).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    if not is_ours and "lr" not in taken:
        raise ValueError(f"path: {spec.path} has no learning rate `lr`, which a schedule could set")
    for name, value in spec.settings.items():
        if name not in known and not open_ended:
            raise ValueError(f"settings.{name}: {_unknown(name, known)}")
        default = known.get(name)
        if is_ours and not _fits(value, default):
            raise ValueError(
                f"settings.{name}: {value!r} is no {type(default).__name__}, as the default "
                f"{default!r} of {spec.path} is"
            )
    given = {name: _as_tuple(value) for name, value in spec.settings.items()}
    if is_ours:
        return {**known, **given}
    decay = known.get(DECAY, inspect.Parameter.empty)
    if DECAY in known and decay is not inspect.Parameter.empty:
        given.setdefault(DECAY, decay)
    return given


def own_spec(spec: ExternalSpec, cls: type[NamedOptimizer]) -> OptimizerSpec:
    """The specification of a whole `NamedOptimizer`, of the class that it names as `spec`."""
    own = getattr(cls, "spec", None)
    module = _module(spec)
    lacking = [name for name in ("route", "build") if not callable(getattr(module, name, None))]
    if not (isinstance(own, type) and issubclass(own, OptimizerSpec)) or lacking:
        raise ValueError(
            f"path: {spec.path} is a NamedOptimizer: its module needs `route` and `build`, and the "
            "class an attribute `spec`, a subclass of optimizers.OptimizerSpec; or derive it from "
            "ElementwiseOptimizer, which needs neither"
        )
    known = {name: field.default for name, field in own.model_fields.items() if name != "lr"}
    for name in spec.settings:
        if name not in known or name == "kind":
            raise ValueError(f"settings.{name}: {_unknown(name, known)}")
    try:
        return own.model_validate({"lr": spec.lr, **spec.settings})
    except ValueError as error:
        raise ValueError(f"settings: {error}") from None


def _module(spec: ExternalSpec) -> Any:
    return load_module(spec.path.partition(":")[0])


def _unknown(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown setting of this optimizer; {hint}known: {', '.join(known) or 'none'}"


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(_as_tuple(value), type(_as_tuple(default)))


def _as_tuple(value: Any) -> Any:
    """TOML has lists where constructors, for betas, want tuples."""
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value
