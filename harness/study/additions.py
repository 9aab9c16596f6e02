"""What a plan has more than another one: seeds, variants and lengths that take nothing back.

A plan that only grew holds every row of the old one under the same key, and every other setting is
the same: what is left of it without the additions has the hash of the old plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from harness.study.plan import Plan
from harness.study.record import Record


class Additions(Record):
    """What may be added to a frozen plan without changing what it fixed."""

    seeds: tuple[int, ...] = ()  # of the confirmation
    tuning_seeds: tuple[int, ...] = ()  # of a study that does not search: they decide nothing
    variants: tuple[str, ...] = ()
    horizons: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.seeds or self.tuning_seeds or self.variants or self.horizons)

    @property
    def words(self) -> str:
        """`confirmation seeds 3, 4; variant sgd`."""
        return "; ".join(self._words())

    def _words(self) -> Iterator[str]:
        for what, names in (
            ("confirmation seed", self.seeds),
            ("tuning seed", self.tuning_seeds),
            ("variant", self.variants),
        ):
            if names:
                yield f"{what}{'s' if len(names) > 1 else ''} {', '.join(map(str, names))}"
        if self.horizons:
            yield f"the baseline at {', '.join(map(str, self.horizons))} steps"


def additions(old: Plan, new: Plan) -> Additions:
    """What the new plan has and the old one has not, of that which can be added.

    Not among it: tuning seeds of a search, whose configurations would be scored on different ones;
    and horizons that a margin in percent of speed is read from, which would be another margin.
    """
    before, now = old.study, new.study
    searches = now.get("tuning") or before.get("tuning")
    margin_moves = now["analysis"].get("margin_speedup_percent") is not None
    names = [variant["name"] for variant in before["variants"]]
    return Additions(
        seeds=_more(before["seeds"], now["seeds"], "confirmation"),
        tuning_seeds=() if searches else _more(before["seeds"], now["seeds"], "tuning"),
        variants=tuple(v["name"] for v in now["variants"] if v["name"] not in names),
        horizons=() if margin_moves else _more(before["analysis"], now["analysis"], "horizons"),
    )


def _more(before: Mapping[str, Any], now: Mapping[str, Any], key: str) -> tuple[int, ...]:
    known = before.get(key, ())
    return tuple(value for value in now.get(key, ()) if value not in known)


def without(plan: Plan, added: Additions) -> Plan:
    """The plan as it would be without these additions, the rest in the same order."""
    seeds, analysis = plan.study["seeds"], plan.study["analysis"]
    study = {
        **plan.study,
        "seeds": {
            **seeds,
            "confirmation": _left(seeds["confirmation"], added.seeds),
            "tuning": _left(seeds["tuning"], added.tuning_seeds),
        },
        "variants": [v for v in plan.study["variants"] if v["name"] not in added.variants],
        "analysis": {**analysis, "horizons": _left(analysis["horizons"], added.horizons)},
    }
    trials = tuple(
        row
        for row in plan.trials
        if row.variant not in added.variants
        and row.seed not in added.seeds
        and row.steps not in added.horizons
    )
    return plan.model_copy(update={"study": study, "trials": trials})


def _left(values: Collection[int], added: Collection[int]) -> list[int]:
    return [value for value in values if value not in added]
