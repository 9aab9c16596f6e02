"""What is verified: a registered kind, or a class of the user's by its import path."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness.errors import UserError
from optimizers import REGISTRY, ExternalSpec, OptimizerSpec, build_optimizer

if TYPE_CHECKING:
    from torch import Tensor

    from optimizers import NamedOptimizer

DEFAULT_LR = 3e-3
"""Small enough that four steps of a sign stay within a weight's spread of 0.02."""

REFUSED = {
    "deepspeed_muon": "DeepSpeed steps its own Muon and keeps its state: nothing of ours to verify",
    "external": "name the class itself, as my_package.my_module:MyOptimizer",
}


@dataclass(frozen=True)
class Subject:
    """An optimizer by its name or path, with its settings: what travels to the workers.

    Args:
        target: A registered kind, or `package.module:ClassName`.
        settings: Of its specification or constructor; `lr` among them.
    """

    target: str
    settings: Mapping[str, Any]

    @property
    def spec(self) -> OptimizerSpec:
        """As a study file has it; a path stands under the kind `external`.

        Raises:
            pydantic.ValidationError: the settings are wrong.
        """
        if self.target in REGISTRY:
            return REGISTRY[self.target].spec.model_validate(dict(self.settings))
        inside = {name: value for name, value in self.settings.items() if name != "lr"}
        return ExternalSpec.model_validate(
            {"path": self.target, "lr": self.settings["lr"], "settings": inside}
        )

    def build(self, named: Sequence[tuple[str, Tensor]]) -> NamedOptimizer:
        """The optimizer of all named parameters that require a gradient."""
        return build_optimizer(self.spec, named)

    @property
    def needs_whole_parameters(self) -> bool:
        """Whether it is a plain optimizer of torch, which runs in one process and under ddp."""
        if self.target in REGISTRY:
            return False
        from optimizers.external.building import class_of, needs_whole_parameters

        spec = self.spec
        assert isinstance(spec, ExternalSpec), "a path stands under the kind external"
        return needs_whole_parameters(class_of(spec))


def subject_of(target: str, settings: Mapping[str, Any] | None = None) -> Subject:
    """The subject, tried out: its class is there and takes its settings.

    A Newton-Schulz in bf16 would be chaotic on gradients without full rank: it is set to fp32,
    unless the settings say otherwise.

    Raises:
        UserError: what is wrong, before anything starts.
    """
    if target in REFUSED:
        raise UserError(f"{target}: {REFUSED[target]}")
    if target not in REGISTRY and ":" not in target:
        near = difflib.get_close_matches(target, REGISTRY, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        kinds = ", ".join(kind for kind in REGISTRY if kind not in REFUSED)
        raise UserError(
            f"{target!r} is no registered optimizer: {hint}The kinds are {kinds}; or name a class "
            "of your own as my_package.my_module:MyOptimizer"
        )
    given = {"lr": DEFAULT_LR, **(settings or {})}
    known = list(REGISTRY[target].spec.model_fields) if target in REGISTRY else []
    if "ns_dtype" in known:
        given.setdefault("ns_dtype", "fp32")
    subject = Subject(target, given)
    try:
        spec = subject.spec
        if isinstance(spec, ExternalSpec):
            from optimizers.external.building import build, route

            shapes = [("matrix.weight", (4, 3)), ("scale", (3,))]
            named = [(name, _parameter(shape)) for name, shape in shapes]
            build(spec, named, routes=route(spec, shapes))
    except ValidationError as error:
        raise UserError(f"{target}: {_words(error, known)}") from None
    except ValueError as error:
        raise UserError(f"{target}: {str(error).removeprefix('path: ')}") from None
    return subject


def _parameter(shape: tuple[int, ...]) -> Tensor:
    import torch

    return torch.nn.Parameter(torch.ones(shape))


def _words(error: ValidationError, known: list[str]) -> str:
    parts = []
    for problem in error.errors():
        key = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            parts.append(f"unknown setting {key!r}: {hint}known: {', '.join(known)}")
        else:
            parts.append(f"{key}: {problem['msg']} (got {problem['input']!r})")
    return "; ".join(parts)
