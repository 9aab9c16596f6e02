"""What a search found, as frozen records."""

from __future__ import annotations

from pydantic import Field

from harness.study.record import Record
from harness.study.search_space import Dimension, Point
from harness.training.records import OutcomeWord


class Configuration(Record):
    """A point of a variant's space and what became of it."""

    index: int = Field(description="within its variant, over all rounds")
    round: int = Field(description="0: the search itself; later: after a widening")
    point: Point
    keys: dict[int, str] = Field(description="trial_key by tuning seed")
    outcome: OutcomeWord | None = Field(
        description="the worst over the tuning seeds; None: not finished"
    )
    losses: dict[int, float] = Field(description="final validation loss by completed tuning seed")
    score: float | None = Field(
        description="mean of `losses`, nats; None unless completed on every tuning seed"
    )


class Ledger(Record):
    """What a variant's search spent, failures included. A shared training run counts once."""

    configurations: int
    training_runs: int
    completed: int = 0
    stopped: int = 0
    diverged: int = 0
    failed: int = 0
    out_of_memory: int = 0
    tokens: int = Field(description="tokens trained on, those of stopped and failed runs included")
    hours: float = Field(description="wall-clock hours of the training runs, start-up included")


class VariantSearch(Record):
    """One variant's search."""

    variant: str
    space: dict[str, Dimension] = Field(description="as last widened")
    configurations: tuple[Configuration, ...]
    chosen: Configuration | None = Field(
        description="the best; None: not finished, or nothing completed"
    )
    sigma: float | None = Field(
        description="standard deviation of a score over seeds, nats; None: one seed tells nothing"
    )
    edges: tuple[str, ...] = Field(description="why the space is too narrow; empty: it is not")
    finished: bool
    ledger: Ledger

    @property
    def tuned(self) -> bool:
        """Whether the search is over and its best lies inside the space."""
        return self.finished and self.chosen is not None and not self.edges


class SearchResult(Record):
    """The searches of a study, by variant, in the order of the study file."""

    searcher: str
    variants: dict[str, VariantSearch]

    @property
    def finished(self) -> bool:
        return all(variant.finished for variant in self.variants.values())
