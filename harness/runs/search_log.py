"""The log of a search: what was suggested and how it ended, in the order of the events.

`runs/<study>/tuning.jsonl` grows by whole lines. Together with the trials' own files it is all
that is needed to continue an interrupted search: a searcher keeps nothing else in mind, the next
point follows from what was drawn and how it ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, model_validator

from harness.runs import json_lines
from harness.runs.reading import RESTORE, read_records
from harness.study.record import Record, TrialKey
from harness.study.search_space import Dimension, Point, settings_text
from harness.training.records import OutcomeWord


class Suggested(Record):
    """A configuration was drawn; it is trained once on every tuning seed."""

    event: Literal["suggested"] = "suggested"
    variant: str
    round: int
    index: int = Field(description="of the configuration within its variant, over all rounds")
    point: Point
    keys: dict[int, TrialKey] = Field(description="trial_key by tuning seed")

    def detail(self, seed: int) -> str:
        """What tells one of its training runs from every other of the variant."""
        return f"#{self.index} {settings_text(self.point)} seed {seed}"


ToldState = Literal["complete", "pruned", "fail"]

STATES: dict[OutcomeWord, ToldState] = {
    "completed": "complete",
    "diverged": "complete",
    "stopped": "pruned",
    "out_of_memory": "fail",
    "failed": "fail",
}
"""What an outcome is to a searcher: diverging is what the training did, a failure says nothing."""


class Ended(Record):
    """All training runs of a configuration have an outcome; what the searcher learns from them."""

    event: Literal["ended"] = "ended"
    variant: str
    index: int
    outcome: OutcomeWord = Field(description="the worst over the tuning seeds")
    state: ToldState
    told: float | None = Field(description="the loss that the searcher is told; null: failed")
    step: int | None = Field(
        default=None, description="at which a pruned one had the loss; null: also before 0.2"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_an_older_version(cls, values: Any) -> Any:
        """0.1.0 wrote no state, and told of a failure as if it had diverged."""
        if isinstance(values, dict) and "state" not in values and values.get("outcome") in STATES:
            state = STATES[values["outcome"]]
            values = {**values, "state": state}
            if state == "fail":
                values["told"] = None
        return values


class Widened(Record):
    """A best value lay at an edge: round `round` searches these spaces."""

    event: Literal["widened"] = "widened"
    round: int
    spaces: dict[str, dict[str, Dimension]]
    why: dict[str, list[str]] = Field(description="edges by variant")


class Chosen(Record):
    """The search is over: this configuration of the variant goes to confirmation."""

    event: Literal["chosen"] = "chosen"
    variant: str
    index: int | None = Field(description="None: no configuration completed; its own settings go")
    point: Point


Event = Suggested | Ended | Widened | Chosen
_EVENT: TypeAdapter[Event] = TypeAdapter(
    Annotated[Suggested | Ended | Widened | Chosen, Field(discriminator="event")]
)


class SearchLog:
    """`tuning.jsonl` of one study."""

    def __init__(self, study_folder: Path) -> None:
        self.path = study_folder / "tuning.jsonl"

    def append(self, event: Event) -> None:
        json_lines.append(self.path, event)

    def events(self) -> list[Event]:
        """In the order in which they happened."""
        return read_records(self.path, _EVENT, RESTORE)


def chosen_points(events: Sequence[Event]) -> dict[str, Point]:
    """The settings that the search chose, by variant; a variant that is undecided is missing."""
    return {event.variant: event.point for event in events if isinstance(event, Chosen)}
