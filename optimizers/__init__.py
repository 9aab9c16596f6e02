"""Optimizers, their parameter groups and their schedules.

What needs torch is imported when it is first asked for: a study file is read without it.

Example:
    >>> from optimizers import MuonSpec, build_optimizer
    >>> optimizer = build_optimizer(MuonSpec(lr=0.02), model.named_parameters())
"""

import importlib
from typing import TYPE_CHECKING, Any

from optimizers.coefficients import SCHEDULES
from optimizers.elementwise.schedule_free_spec import ScheduleFreeSpec
from optimizers.external.spec import ExternalSpec
from optimizers.learning_rate import LearningRateSchedule, learning_rate_factor
from optimizers.peers.specs import DeepSpeedMuonSpec, TorchMuonSpec
from optimizers.registry import REGISTRY, OptimizerEntry, build_optimizer, routes
from optimizers.routing import Matrix, MatrixSplit, Route, RouteRule
from optimizers.specs import AdamWSpec, MuonSpec, OptimizerSpec

if TYPE_CHECKING:
    from optimizers.forecasting import Forecast, ParameterForecast, Storage, forecast
    from optimizers.fragments import Fragment
    from optimizers.muon import Muon
    from optimizers.newton_schulz import orthogonalize
    from optimizers.optimizer import NamedOptimizer

_NEEDS_TORCH = {
    "Forecast": "optimizers.forecasting",
    "ParameterForecast": "optimizers.forecasting",
    "Storage": "optimizers.forecasting",
    "forecast": "optimizers.forecasting",
    "Fragment": "optimizers.fragments",
    "Muon": "optimizers.muon",
    "NamedOptimizer": "optimizers.optimizer",
    "orthogonalize": "optimizers.newton_schulz",
}

__all__ = [
    "REGISTRY",
    "SCHEDULES",
    "AdamWSpec",
    "DeepSpeedMuonSpec",
    "ExternalSpec",
    "Forecast",
    "Fragment",
    "LearningRateSchedule",
    "Matrix",
    "MatrixSplit",
    "Muon",
    "MuonSpec",
    "NamedOptimizer",
    "OptimizerEntry",
    "OptimizerSpec",
    "ParameterForecast",
    "Route",
    "RouteRule",
    "ScheduleFreeSpec",
    "Storage",
    "TorchMuonSpec",
    "build_optimizer",
    "forecast",
    "learning_rate_factor",
    "orthogonalize",
    "routes",
]


def __getattr__(name: str) -> Any:
    if name in _NEEDS_TORCH:
        return getattr(importlib.import_module(_NEEDS_TORCH[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
