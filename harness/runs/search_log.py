"""The log of a search: what was suggested and how it ended, in the order of the events.

`runs/<study>/tuning.jsonl` grows by whole lines. Together with the trials' own files it is all
that is needed to continue an interrupted search, the searcher's state included: the same events
in the same order bring a searcher with the same seed into the same state.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

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


class Ended(Record):
    """All training runs of a configuration have an outcome."""

    event: Literal["ended"] = "ended"
    variant: str
    index: int
    outcome: OutcomeWord = Field(description="the worst over the tuning seeds")
    told: float = Field(description="the loss that the searcher was told, finite in any case")


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
