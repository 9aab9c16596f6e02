"""Optimizers, their parameter groups and their schedules.

Example:
    >>> from optimizers import MuonSpec, build_optimizer
    >>> optimizer = build_optimizer(MuonSpec(lr=0.02), model.named_parameters())
"""

from optimizers.adamw import AdamWSpec
from optimizers.coefficients import SCHEDULES
from optimizers.fragments import Fragment
from optimizers.learning_rate import LearningRateSchedule, learning_rate_factor
from optimizers.muon import Muon
from optimizers.muon_spec import MuonSpec
from optimizers.newton_schulz import orthogonalize
from optimizers.optimizer import NamedOptimizer
from optimizers.registry import REGISTRY, OptimizerEntry, build_optimizer, routes
from optimizers.routing import Matrix, MatrixSplit, Route, RouteRule
from optimizers.spec import OptimizerSpec
from optimizers.torch_muon import TorchMuonSpec

__all__ = [
    "REGISTRY",
    "SCHEDULES",
    "AdamWSpec",
    "Fragment",
    "LearningRateSchedule",
    "Matrix",
    "MatrixSplit",
    "Muon",
    "MuonSpec",
    "NamedOptimizer",
    "OptimizerEntry",
    "OptimizerSpec",
    "Route",
    "RouteRule",
    "TorchMuonSpec",
    "build_optimizer",
    "learning_rate_factor",
    "orthogonalize",
    "routes",
]
