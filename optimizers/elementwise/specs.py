"""The settings of the elementwise optimizers. A study file is read by them without torch."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from optimizers.specs import ADAM_SPACE, OptimizerSpec

# What the authors' train_gpt2_*_mars.py take for vectors: 3e-3 with 6e-3, 1e-3 with 2e-3.
_MARS_LR_RATIO_1D = 0.5

_DECAY = "Decoupled decay per unit of learning rate, on tensors of two or more dimensions."
_EPSILON = "Added to the root of the mean squared gradient."
_MEAN = "Decay of the mean gradient."
_MEAN_SQUARE = "Decay of the mean squared gradient."
_CAUTIOUS = (
    "Mask what would move an element against its gradient (Liang et al. 2024), and scale up the "
    "rest by the share of the parameter's elements that it leaves."
)


class LionSpec(OptimizerSpec):
    """Lion (Chen et al. 2023) with decoupled weight decay on matrices only."""

    # A tenth to a third of AdamW's rate and three to ten times its decay: section 5 of the paper.
    # Wen et al. 2025 (arXiv 2509.02046) found 1e-3 and 0.6 to 0.9 best, 4e-3 mostly diverged.
    default_space: ClassVar[dict[str, dict[str, Any]]] = {
        "lr": {"kind": "loguniform", "low": 1e-4, "high": 3e-3},
        "weight_decay": {"kind": "loguniform", "low": 0.1, "high": 3.0},
    }

    kind: Literal["lion"] = "lion"
    beta1: float = Field(
        default=0.9, ge=0.0, lt=1.0, description="Share of the momentum in the update's sign."
    )
    beta2: float = Field(default=0.99, ge=0.0, lt=1.0, description="Decay of the momentum.")
    weight_decay: float = Field(default=1.0, ge=0.0, description=_DECAY)
    cautious: bool = Field(default=False, description=_CAUTIOUS)


class SignumSpec(OptimizerSpec):
    """Signum (Bernstein et al. 2018): the sign of the momentum, with decoupled weight decay."""

    # A decade to each side of 1e-3, the default of the code of Semenov et al. 2025 (arXiv
    # 2509.01440), whose best decays were 0.1 and 0.5; the momenta are the paper's and Muon's.
    default_space: ClassVar[dict[str, dict[str, Any]]] = {
        "lr": {"kind": "loguniform", "low": 1e-4, "high": 1e-2},
        "weight_decay": {"kind": "loguniform", "low": 0.03, "high": 1.0},
        "momentum": {"kind": "choice", "values": [0.9, 0.95]},
    }

    kind: Literal["signum"] = "signum"
    momentum: float = Field(
        default=0.9, ge=0.0, lt=1.0, description="Decay of the momentum; 0 is signSGD."
    )
    nesterov: bool = Field(
        default=False, description="Take the sign of b M + (1 - b) G instead of that of M."
    )
    weight_decay: float = Field(default=0.1, ge=0.0, description=_DECAY)
    cautious: bool = Field(default=False, description=_CAUTIOUS)


class AdoptSpec(OptimizerSpec):
    """ADOPT (Taniguchi et al. 2024): divides by a mean square that has not seen the gradient."""

    # Adam's borders, in whose place it is offered; beta2 is the paper's and Adam's usual one.
    default_space: ClassVar[dict[str, dict[str, Any]]] = {
        **ADAM_SPACE,
        "beta2": {"kind": "choice", "values": [0.999, 0.9999]},
    }

    kind: Literal["adopt"] = "adopt"
    beta1: float = Field(
        default=0.9, ge=0.0, lt=1.0, description="Decay of the mean normalized gradient."
    )
    beta2: float = Field(default=0.9999, ge=0.0, lt=1.0, description=_MEAN_SQUARE)
    epsilon: float = Field(
        default=1e-6, gt=0.0, description="Least root of the mean squared gradient."
    )
    clip: bool = Field(
        default=True,
        description="Bound the elements of the normalized gradient by (t - 1)^(1/4) in update t.",
    )
    weight_decay: float = Field(default=0.1, ge=0.0, description=_DECAY)
    cautious: bool = Field(default=False, description=_CAUTIOUS)


class AdEMAMixSpec(OptimizerSpec):
    """AdEMAMix (Pagliardini et al. 2024): AdamW with a second, slow mean of the gradients."""

    # Adam's borders; alpha around the 8 of the authors and of Semenov et al. 2025 (arXiv
    # 2509.01440), beta3 the authors' 0.9999 and their 0.999.
    default_space: ClassVar[dict[str, dict[str, Any]]] = {
        **ADAM_SPACE,
        "alpha": {"kind": "uniform", "low": 4.0, "high": 12.0},
        "beta3": {"kind": "choice", "values": [0.999, 0.9999]},
    }

    kind: Literal["ademamix"] = "ademamix"
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0, description="Decay of the fast mean.")
    beta2: float = Field(default=0.999, ge=0.0, lt=1.0, description=_MEAN_SQUARE)
    beta3: float = Field(default=0.9999, ge=0.0, lt=1.0, description="Decay of the slow mean.")
    alpha: float = Field(default=8.0, ge=0.0, description="Weight of the slow mean.")
    warmup: int = Field(
        default=0,
        ge=0,
        description="Updates in which alpha rises from 0 and beta3 from beta1. The paper takes the "
        "length of the training; 0: no warmup.",
    )
    epsilon: float = Field(default=1e-8, gt=0.0, description=_EPSILON)
    weight_decay: float = Field(default=0.1, ge=0.0, description=_DECAY)


class NAdamWSpec(OptimizerSpec):
    """NAdamW (Dozat 2016, with decoupled decay): AdamW with a look ahead along the momentum."""

    # Adam's borders; beta1 as AlgoPerf searches it (0.9 to 0.996), in whose baselines this is.
    default_space: ClassVar[dict[str, dict[str, Any]]] = {
        **ADAM_SPACE,
        "beta1": {"kind": "uniform", "low": 0.9, "high": 0.996},
    }

    kind: Literal["nadamw"] = "nadamw"
    form: Literal["constant", "scheduled"] = Field(
        default="constant",
        description="constant: beta1 throughout, as AlgoPerf's baseline. scheduled: Dozat's rising "
        "momentum, as torch.optim.NAdam.",
    )
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0, description=_MEAN)
    beta2: float = Field(default=0.999, ge=0.0, lt=1.0, description=_MEAN_SQUARE)
    epsilon: float = Field(default=1e-8, gt=0.0, description=_EPSILON)
    momentum_decay: float = Field(
        default=4e-3, ge=0.0, description="How fast the scheduled momentum rises (psi)."
    )
    weight_decay: float = Field(default=0.1, ge=0.0, description=_DECAY)
    cautious: bool = Field(default=False, description=_CAUTIOUS)


class MarsSpec(OptimizerSpec):
    """MARS-AdamW (Yuan et al. 2024) in its approximate form, without a second backward pass."""

    # Rate and decay from below the authors' 2e-3 and 1e-2 to above the best of Wen et al. 2025
    # (arXiv 2509.02046), 8e-3 to 1.6e-2 and 0.1; gamma as those searched it.
    default_space: ClassVar[dict[str, dict[str, Any]]] = {
        "lr": {"kind": "loguniform", "low": 1e-3, "high": 2e-2},
        "weight_decay": {"kind": "loguniform", "low": 5e-3, "high": 0.5},
        "gamma": {"kind": "loguniform", "low": 0.0125, "high": 0.1},
    }

    kind: Literal["mars"] = "mars"
    beta1: float = Field(
        default=0.95, ge=0.0, lt=1.0, description="Decay of the mean corrected gradient."
    )
    beta2: float = Field(
        default=0.99, ge=0.0, lt=1.0, description="Decay of the mean squared corrected gradient."
    )
    gamma: float = Field(
        default=0.025, ge=0.0, description="Strength of the correction by the last gradient."
    )
    epsilon: float = Field(default=1e-8, gt=0.0, description=_EPSILON)
    weight_decay: float = Field(default=0.01, ge=0.0, description=_DECAY)
    optimize_1d: bool = Field(
        default=False, description="Vectors and scalars too, which AdamW updates otherwise."
    )
    lr_1d: float | None = Field(
        default=None,
        gt=0.0,
        description="Learning rate of that AdamW; default half of lr, as the authors take it.",
    )
    beta1_1d: float = Field(default=0.9, ge=0.0, lt=1.0, description="That AdamW's beta1.")
    beta2_1d: float = Field(default=0.95, ge=0.0, lt=1.0, description="That AdamW's beta2.")
    cautious: bool = Field(default=False, description=_CAUTIOUS)

    @property
    def rate_1d(self) -> float:
        """The learning rate of the AdamW part, with the default resolved."""
        return self.lr * _MARS_LR_RATIO_1D if self.lr_1d is None else self.lr_1d
