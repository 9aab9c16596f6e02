"""The models by name. To add one: write its file, add its line."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Discriminator, Tag

from models.config import ModelConfig
from models.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

DEFAULT_KIND = "transformer"


@dataclass(frozen=True)
class ModelEntry:
    """One kind of model.

    Args:
        config: The class of its settings.
        module: Where its `build(config, vocab_size=...) -> model` is. The model takes
            `(tokens_BT, targets_BT)`, returns a `ModelOutput`, keeps the settings as `config` and
            its residual blocks as `blocks`, which `fsdp2` shards one by one.
    """

    config: type[ModelSpec]
    module: str

    @classmethod
    def in_one_file(cls, module: str, config: str) -> ModelEntry:
        """Settings beside the model: one file less, but reading any study file imports torch."""
        return cls(getattr(importlib.import_module(module), config), module)


MODELS: dict[str, ModelEntry] = {
    "transformer": ModelEntry(ModelConfig, "models.transformer"),
}


def build_model(config: ModelSpec, *, vocab_size: int) -> nn.Module:
    """The model of these settings, not yet initialised (see `models.initialize`)."""
    module = importlib.import_module(MODELS[_kind(config)].module)
    model: nn.Module = module.build(config, vocab_size=vocab_size)
    return model


def _kind(value: Any) -> str:
    """The kind that a table of a study file, or settings, name."""
    if isinstance(value, dict):
        return str(value.get("kind", DEFAULT_KIND))
    return getattr(value, "kind", DEFAULT_KIND)


if TYPE_CHECKING:
    AnyModel = ModelSpec
else:
    # Built from the registry, so that one registry line is enough to add a model. Not the plain
    # discriminator "kind", which a table without `kind` would fail.
    AnyModel = Annotated[
        Union[tuple(Annotated[entry.config, Tag(kind)] for kind, entry in MODELS.items())],  # noqa: UP007
        Discriminator(_kind),
    ]
