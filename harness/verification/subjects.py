"""What is verified: a registered kind, or a class of the user's by its import path."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness.errors import UserError
from optimizers import REGISTRY, OptimizerSpec

if TYPE_CHECKING:
    from torch import Tensor

    from optimizers import NamedOptimizer

DEFAULT_LR = 3e-3
"""Small enough that four steps of a sign stay within a weight's spread of 0.02."""

WITHOUT_OURS = {"deepspeed_muon": "DeepSpeed steps its own Muon and keeps its state to itself"}


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
    def spec(self) -> OptimizerSpec | None:
        """The specification of a registered kind; None for a path."""
        if self.target not in REGISTRY:
            return None
        return REGISTRY[self.target].spec.model_validate(dict(self.settings))

    def build(self, named: Sequence[tuple[str, Tensor]]) -> NamedOptimizer:
        """The optimizer of all named parameters that require a gradient."""
        from harness.verification.adapter import build_from_path
        from optimizers import build_optimizer

        if (spec := self.spec) is not None:
            return build_optimizer(spec, named)
        trainable = [(name, parameter) for name, parameter in named if parameter.requires_grad]
        return build_from_path(self.target, self.settings, trainable)


def subject_of(target: str, settings: Mapping[str, Any] | None = None) -> Subject:
    """The subject, tried out: its class is there and takes its settings.

    A Newton-Schulz in bf16 would be chaotic on gradients without full rank: it is set to fp32,
    unless the settings say otherwise.

    Raises:
        UserError: what is wrong, before anything starts.
    """
    given = {"lr": DEFAULT_LR, **(settings or {})}
    if target in WITHOUT_OURS:
        raise UserError(f"{target}: {WITHOUT_OURS[target]}: there is nothing of ours to verify")
    if target in REGISTRY:
        known = REGISTRY[target].spec.model_fields
        if "ns_dtype" in known:
            given.setdefault("ns_dtype", "fp32")
        try:
            REGISTRY[target].spec.model_validate(given)
        except ValidationError as error:
            raise UserError(f"{target}: {_words(error, list(known))}") from None
        return Subject(target, given)
    if ":" not in target:
        near = difflib.get_close_matches(target, REGISTRY, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(
            f"{target!r} is no registered optimizer: {hint}The kinds are {', '.join(REGISTRY)}; "
            "or name a class of your own as my_package.my_module:MyOptimizer"
        )
    from harness.verification.adapter import try_path

    try_path(target, given)
    return Subject(target, given)


def load_class(path: str) -> type:
    """The class of `package.module:ClassName`; the current directory is searched last.

    Raises:
        UserError: the module cannot be imported, or has no such class.
    """
    module_name, _, name = path.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{path}: cannot import {module_name} ({error}): install its package, or start in the "
            f"folder that holds the file ({os.getcwd()} is searched)"
        ) from None
    except Exception as error:
        raise UserError(
            f"{path}: importing {module_name} fails with {type(error).__name__}: {error}"
        ) from error
    found = getattr(module, name, None)
    if not isinstance(found, type):
        classes = [n for n, value in vars(module).items() if isinstance(value, type)]
        near = difflib.get_close_matches(name, classes, n=1)
        hint = f": did you mean {near[0]}?" if near else ""
        raise UserError(f"{path}: {module_name} has no class {name!r}{hint}")
    return found


def _words(error: ValidationError, known: list[str]) -> str:
    parts = []
    for problem in error.errors():
        key = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            parts.append(f"unknown setting {key!r}: {hint}known: {', '.join(known)}")
        else:
            parts.append(f"{key}: {problem['msg']} (got {problem['input']!r})")
    return "; ".join(parts)
