"""The Mixture-of-Experts language model that every variant trains."""

from models.accounting import (
    num_active_parameters,
    num_dead_experts,
    num_parameters,
    training_flops_per_token,
)
from models.config import SIZES, ModelConfig, resolve_size
from models.initialization import initialize, parameters_sha256
from models.transformer import ModelOutput, MoETransformer

__all__ = [
    "SIZES",
    "MoETransformer",
    "ModelConfig",
    "ModelOutput",
    "initialize",
    "num_active_parameters",
    "num_dead_experts",
    "num_parameters",
    "parameters_sha256",
    "resolve_size",
    "training_flops_per_token",
]
