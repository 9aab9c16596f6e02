"""The journal of a search: what was suggested and how it ended, in the order of the events.

`runs/<study>/tuning.jsonl` grows by whole lines. Together with the trials' own files it is all
that is needed to continue an interrupted search, the searcher's state included: the same events
in the same order bring a searcher with the same seed into the same state.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from harness.results import OutcomeWord, Record
from harness.tuning_settings import Dimension, Point


class Suggested(Record):
    """A configuration was drawn; it is trained once on every tuning seed."""

    event: Literal["suggested"] = "suggested"
    variant: str
    round: int
    index: int = Field(description="of the configuration within its variant, over all rounds")
    point: Point
    keys: dict[int, str] = Field(description="trial_key by tuning seed")


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


class Journal:
    """`tuning.jsonl` of one study."""

    def __init__(self, study_folder: Path) -> None:
        self.path = study_folder / "tuning.jsonl"

    def append(self, event: Event) -> None:
        """Adds one whole line, forces it to the disk; a line cut by a crash is removed first."""
        self._drop_cut_line()
        with self.path.open("a", encoding="utf-8") as file:
            file.write(event.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def events(self) -> list[Event]:
        """All whole lines, in the order of the events."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").split("\n")
        return [_EVENT.validate_json(line) for line in lines[:-1]]

    def _drop_cut_line(self) -> None:
        if not self.path.exists():
            return
        text = self.path.read_bytes()
        if text and not text.endswith(b"\n"):
            with self.path.open("r+b") as file:
                file.truncate(text.rfind(b"\n") + 1)
