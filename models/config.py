"""The shape of the model: its fields, their limits, and the sizes that have a name."""

import difflib
import math
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from models.spec import ModelSpec

# These mean nothing to a model without a router.
MOE_ONLY_FIELDS = ("num_experts", "experts_per_token", "load_balancing_weight", "router_z_weight")


class ModelConfig(ModelSpec):
    """Everything that fixes the architecture, except what the data decides.

    The vocabulary size and the sequence length belong to the data; the model is given the one
    when it is built and reads the other from every batch.
    """

    kind: Literal["transformer"] = Field(
        default="transformer",
        exclude=True,  # the default of a study file: it changes no hash of a trial
        description="Which model; others are added in `models/registry.py`.",
    )
    hidden_size: int = Field(
        default=256, ge=2, description="Width of the residual stream (features)."
    )
    num_heads: int = Field(
        default=8, ge=1, description="Attention heads per layer; must divide hidden_size."
    )
    feed_forward: Literal["moe", "dense"] = Field(
        default="moe", description="'moe': routed experts; 'dense': one feed-forward per layer."
    )
    activation: Literal["silu", "swiglu"] = Field(
        default="silu",
        description="'silu': down(silu(up(x))); 'swiglu': down(silu(gate(x)) * up(x)).",
    )
    feed_forward_size: int = Field(
        default=1024,
        ge=1,
        description="Inner width of an expert or of the dense layer (features).",
    )
    num_experts: int = Field(default=8, ge=1, description="Experts per layer (experts).")
    experts_per_token: int = Field(
        default=2, ge=1, description="Experts that each token is sent to (experts)."
    )
    load_balancing_weight: float = Field(
        default=0.01,  # Switch Transformer, arXiv 2101.03961, section 2.2; the seed study
        ge=0,
        allow_inf_nan=False,
        description="Weight of each layer's load-balancing loss in the loss (dimensionless).",
    )
    router_z_weight: float = Field(
        default=0.001,  # ST-MoE, arXiv 2202.08906, section 3.1
        ge=0,
        allow_inf_nan=False,
        description="Weight of each layer's router z-loss in the loss (dimensionless).",
    )
    tie_embeddings: bool = Field(
        default=True, description="Whether the head shares the embedding's weight (yes or no)."
    )
    scale_embeddings: bool = Field(
        default=True,  # Attention Is All You Need, arXiv 1706.03762, section 3.4; the seed study
        description="Whether embeddings are multiplied by sqrt(hidden_size) (yes or no).",
    )
    rope_theta: float = Field(
        default=10_000.0,  # RoFormer, arXiv 2104.09864, section 3.2.2
        gt=1,
        allow_inf_nan=False,
        description="Base of the rotary wavelengths; the longest is about 2 pi theta (tokens).",
    )
    norm_epsilon: float = Field(
        default=1e-6,  # LLaMA, facebookresearch/llama model.py
        gt=0,
        lt=1,
        description="Added to the mean square in RMSNorm (squared features).",
    )

    @property
    def head_size(self) -> int:
        """Features of one attention head."""
        return self.hidden_size // self.num_heads

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"num_heads ({self.num_heads}) must divide hidden_size ({self.hidden_size}): "
                f"{_advice_on_heads(self.hidden_size, self.num_heads)}"
            )
        if self.head_size % 2:
            raise ValueError(
                f"hidden_size / num_heads ({self.hidden_size} / {self.num_heads} = "
                f"{self.head_size}) must be even, because rotary embeddings turn pairs of "
                f"features: {_advice_on_heads(self.hidden_size, self.num_heads)}"
            )
        return self

    @model_validator(mode="after")
    def _experts_suffice(self) -> Self:
        if self.feed_forward == "moe" and self.experts_per_token > self.num_experts:
            raise ValueError(
                f"experts_per_token ({self.experts_per_token}) cannot exceed num_experts "
                f"({self.num_experts}): choose 1 to {self.num_experts}"
            )
        return self

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        if self.feed_forward == "moe":
            return self
        for name in MOE_ONLY_FIELDS:
            value, default = getattr(self, name), type(self).model_fields[name].default
            if value != default:
                raise ValueError(
                    f"{name} ({value}) has no effect when feed_forward is 'dense': "
                    f"leave it out or set feed_forward to 'moe'"
                )
        return self


def _advice_on_heads(hidden_size: int, num_heads: int) -> str:
    """Up to three numbers of heads, the nearest in ratio, that give an even head size."""
    if hidden_size % 2:
        return "choose an even hidden_size"
    fitting = [h for h in range(1, hidden_size // 2 + 1) if hidden_size % (2 * h) == 0]
    nearest = sorted(fitting, key=lambda h: abs(math.log(h / num_heads)))[:3]
    *head, last = [str(h) for h in sorted(nearest)]
    return f"choose {', '.join(head)} or {last}" if head else f"choose {last}"


# "The seed study" is vukrosic/muon-optimizer-research and its blueberry-llm successor.
SIZES: dict[str, dict[str, Any]] = {
    # For tests and a first run: a step of 16 x 128 tokens takes about 0.1 s on one core.
    "tiny": {
        "hidden_size": 64,
        "num_layers": 2,
        "num_heads": 4,
        "feed_forward_size": 128,
        "num_experts": 4,
        "experts_per_token": 2,
    },
    # The dense model of the published ablation of 19 Muon variants.
    "ablation": {
        "hidden_size": 256,
        "num_layers": 4,
        "num_heads": 8,
        "feed_forward": "dense",
        "feed_forward_size": 1024,
    },
    # The Mixture-of-Experts model of the seed study.
    "moe-baseline": {
        "hidden_size": 384,
        "num_layers": 6,
        "num_heads": 8,
        "feed_forward_size": 1536,
        "num_experts": 8,
        "experts_per_token": 2,
    },
}


def resolve_size(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace a size's name by its fields; what is given beside the name wins.

    Sizes are the transformer's: a table of another `kind` is returned as it is.

    Args:
        values: fields of ModelConfig, and perhaps `size`, a key of SIZES.

    Returns:
        Fields of ModelConfig, not yet validated.

    Raises:
        ValueError: the size is unknown; the message names the nearest.

    Example:
        >>> resolve_size({"size": "ablation", "num_layers": 2})["num_layers"]
        2
    """
    overrides = dict(values)
    if "size" not in overrides or overrides.get("kind", "transformer") != "transformer":
        return overrides
    size = overrides.pop("size")
    if size not in SIZES:
        near = difflib.get_close_matches(str(size), SIZES, n=1, cutoff=0.0)
        raise ValueError(
            f"size {size!r} is unknown: did you mean {near[0]!r}? The sizes are "
            f"{', '.join(SIZES)}; or leave size out and give the fields"
        )
    fields = SIZES[size]
    if overrides.get("feed_forward") == "dense":
        # The size's own routing is not something that the caller asked for in vain.
        fields = {name: value for name, value in fields.items() if name not in MOE_ONLY_FIELDS}
    return fields | overrides
