"""The Mixture-of-Experts language model that every variant trains."""

from models.config import SIZES, ModelConfig, resolve_size
from models.initialization import initialize, parameters_sha256
from models.transformer import ModelOutput, MoETransformer

__all__ = [
    "SIZES",
    "MoETransformer",
    "ModelConfig",
    "ModelOutput",
    "initialize",
    "parameters_sha256",
    "resolve_size",
]
