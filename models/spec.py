"""What the settings of every model have in common."""

from pydantic import BaseModel, ConfigDict, Field


class ModelSpec(BaseModel):
    """Base of all models' settings: frozen, and unknown fields are errors.

    A subclass declares `kind: Literal["its_name"]`, which the registry maps to its build function.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_layers: int = Field(
        default=4, ge=1, description="Number of blocks that the residual stream passes (layers)."
    )
