"""The language models that variants train: a Mixture-of-Experts transformer, and what is added.

What needs torch is imported when it is first asked for: a study file is read without it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from models.config import SIZES, ModelConfig, resolve_size
from models.registry import MODELS, AnyModel, ModelEntry, build_model
from models.spec import ModelSpec

if TYPE_CHECKING:
    from models.accounting import (
        num_active_parameters,
        num_parameters,
        training_flops_per_token,
    )
    from models.initialization import initialize, parameters_sha256
    from models.transformer import ModelOutput, MoETransformer

_NEEDS_TORCH = {
    "MoETransformer": "models.transformer",
    "ModelOutput": "models.transformer",
    "initialize": "models.initialization",
    "num_active_parameters": "models.accounting",
    "num_parameters": "models.accounting",
    "parameters_sha256": "models.initialization",
    "training_flops_per_token": "models.accounting",
}

__all__ = [
    "MODELS",
    "SIZES",
    "AnyModel",
    "MoETransformer",
    "ModelConfig",
    "ModelEntry",
    "ModelOutput",
    "ModelSpec",
    "build_model",
    "initialize",
    "num_active_parameters",
    "num_parameters",
    "parameters_sha256",
    "resolve_size",
    "training_flops_per_token",
]


def __getattr__(name: str) -> Any:
    if name in _NEEDS_TORCH:
        return getattr(importlib.import_module(_NEEDS_TORCH[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
