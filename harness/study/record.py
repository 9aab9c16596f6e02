"""What every section of a study file and every record on disk has in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Record(BaseModel):
    """A frozen table or record; unknown keys are errors, non-finite numbers are written as null."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


TrialKey = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
"""A `trial_key` as files name it: it becomes the name of a folder, so nothing else is let in."""
