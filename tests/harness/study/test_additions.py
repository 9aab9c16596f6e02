"""A plan that only grew needs no amendment; one that differs in anything else does."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import freeze, load_plan
from harness.runs.reading import read_values
from harness.study.additions import additions
from harness.study.plan import PLAN_VERSION, Plan, make_plan
from harness.study.study_file import Study

DATA = "0" * 64
CHALLENGERS = {
    "muon": {"kind": "muon", "lr": 0.02, "aux_lr": 0.004, "ns_dtype": "fp32"},
    "muon-hot": {"kind": "muon", "lr": 0.2, "aux_lr": 0.004, "ns_dtype": "fp32"},
    "twin": {"kind": "adamw", "lr": 0.004},
}
Values = dict[str, Any]


def asked(
    seeds: Sequence[int], names: Sequence[str], *, horizons: Sequence[int] = (), **changes: Any
) -> Plan:
    """The plan of a study with these seeds and variants; `changes` are of other settings."""
    optimizers = {"adamw": {"kind": "adamw", "lr": 0.004}, **CHALLENGERS}
    values: Values = {
        "name": "grows",
        "model": {"size": "tiny"},
        "training": {"steps": 100, "batch_size": 16, "evaluation_every": 50},
        "seeds": {"confirmation": seeds, "tuning": changes.pop("tuning_seeds", ())},
        "variants": [
            {"name": name, "optimizer": optimizers[name] | changes.get(name, {})} for name in names
        ],
        "analysis": {"baseline": "adamw", "horizons": horizons},
    }
    for section in ("training", "analysis", "resources"):
        values[section] = values.get(section, {}) | changes.get(section, {})
    return make_plan(Study.model_validate(values), changes.get("data_sha256", DATA))


@st.composite
def grown(draw: st.DrawFn) -> tuple[Values, Values]:
    """What is asked for first, and something that holds all of it in the same order."""

    def part(values: Sequence[Any], least: int) -> list[Any]:
        kept = draw(st.sets(st.sampled_from(values), min_size=least))
        return [value for value in values if value in kept]

    seeds = draw(st.permutations(range(5)))
    names = draw(st.permutations(["adamw", *CHALLENGERS]))
    old = {"seeds": part(seeds, 1), "names": part(names, 0)}
    old["names"] = [name for name in names if name in {"adamw", *old["names"]}]
    new = {key: [v for v in whole if v in old[key] or draw(st.booleans())]
           for key, whole in (("seeds", seeds), ("names", names))}  # fmt: skip
    lengths = [25, 50, 141, 200]
    new["horizons"] = draw(st.sampled_from([[], lengths[1:], lengths]))
    old["horizons"] = draw(st.sampled_from([[], new["horizons"], new["horizons"][-3:]]))
    return old, new


class Folder:
    """A study's folder that is gone afterwards."""

    def __enter__(self) -> Folder:
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = StudyFolder(Path(self.temporary.name) / "runs" / "grows")
        self.source = Path(self.temporary.name) / "grows.toml"
        self.source.write_text("# as it was asked\n")
        return self

    def __exit__(self, *_: object) -> None:
        self.temporary.cleanup()

    def freeze(self, plan: Plan, **options: Any) -> Any:
        return freeze(self.folder, plan, source=self.source, **options)


@settings(max_examples=40, deadline=None)
@given(grown())
def test_a_plan_that_only_grew_keeps_every_row_and_needs_no_amendment(
    both: tuple[Values, Values],
) -> None:
    old, new = asked(**both[0]), asked(**both[1])
    assert set(old.trials) <= set(new.trials), "the same rows with the same keys"
    with Folder() as study:
        study.freeze(old)
        addition = study.freeze(new)
        assert load_plan(study.folder) == new
        assert not study.folder.amendments_path.exists()
        assert study.folder.additions() == ([addition] if addition else [])
        assert (addition is None) == (old.sha256 == new.sha256)
        if addition is not None:
            assert (addition.from_sha256, addition.to_sha256) == (old.sha256, new.sha256)
            assert addition.comparisons == len(both[0]["names"]) - 1
            assert addition.outcomes == addition.measured == 0
            for key, found in (("seeds", addition.added.seeds), ("names", addition.added.variants)):
                assert list(found) == [v for v in both[1][key] if v not in both[0][key]]
        assert study.freeze(new) is None, "the next run adds nothing"


OTHERWISE: list[Callable[[Values], Values]] = [
    lambda plan: plan | {"training": {"steps": 99}},
    lambda plan: plan | {"analysis": {"alpha": 0.01}},
    lambda plan: plan | {"analysis": {"margin_nats": 0.1}},
    lambda plan: plan | {"analysis": {"looks": [3, 5]}, "seeds": range(5)},
    lambda plan: plan | {"adamw": {"lr": 0.005}},
    lambda plan: plan | {"data_sha256": "1" * 64},
    lambda plan: plan | {"seeds": [*plan["seeds"][1:], 77]},
    lambda plan: plan | {"horizons": [24, 51, 202], "analysis": {"power": 0.9}},
]


@settings(max_examples=40, deadline=None)
@given(grown(), st.sampled_from(OTHERWISE))
def test_any_other_difference_needs_an_amendment_and_the_additions_are_told_apart(
    both: tuple[Values, Values], change: Callable[[Values], Values]
) -> None:
    old, new = asked(**both[0]), asked(**change(dict(both[0]) | {"names": both[1]["names"]}))
    with Folder() as study:
        study.freeze(old)
        before = study.folder.plan_path.read_bytes()
        with pytest.raises(UserError, match="holds results of a different plan") as refused:
            study.freeze(new)
        added = additions(old, new)
        assert (f"needs no --amend: {added.words}." in str(refused.value)) == bool(added)
        assert study.folder.plan_path.read_bytes() == before
        assert not study.folder.additions_path.exists()
        study.freeze(new, amend="it is meant")
        assert [a.to_sha256 for a in study.folder.amendments()] == [new.sha256]
        assert not study.folder.additions_path.exists()


def test_seeds_in_another_order_are_no_addition() -> None:
    with Folder() as study:
        study.freeze(asked([0, 1, 2], ["adamw", "muon"]))
        study.freeze(asked([7, 0, 8, 1, 2], ["adamw", "muon"]))
        with pytest.raises(UserError, match=r"Changed: seeds\.confirmation\.0 \(7 -> 0\)"):
            study.freeze(asked([0, 7, 8, 1, 2, 3], ["adamw", "muon"]))


def test_seeds_of_declared_looks_are_no_addition() -> None:
    looks = {"analysis": {"looks": [3, 4]}}
    with Folder() as study:
        study.freeze(asked(range(4), ["adamw", "muon"], **looks))
        more = asked(range(6), ["adamw", "muon"], analysis={"looks": [3, 6]})
        with pytest.raises(UserError, match=r"analysis\.looks.*Only added.*seeds 4, 5\. A changed"):
            study.freeze(more)
        addition = study.freeze(asked(range(4), ["adamw", "muon", "muon-hot"], **looks))
        assert addition.added.words == "variant muon-hot"


def test_a_length_that_moves_the_margin_is_no_addition() -> None:
    margin = {"analysis": {"margin_speedup_percent": 5}}
    plans = [
        asked(range(3), ["adamw", "muon"], horizons=lengths, **(margin if moves else {}))
        for lengths in ([25, 50, 200], [25, 50, 141, 200])
        for moves in (True, False)
    ]
    assert additions(plans[1], plans[3]).words == "the baseline at 141 steps"
    with Folder() as study:
        study.freeze(plans[0])
        with pytest.raises(UserError, match=r"analysis\.horizons"):
            study.freeze(plans[2])


def test_where_it_runs_and_spare_seeds_of_a_search_that_is_none_may_change_too() -> None:
    with Folder() as study:
        study.freeze(asked(range(3), ["adamw", "muon"]))
        elsewhere = asked(range(4), ["adamw", "muon"], tuning_seeds=[9], resources={"workers": 4})
        assert study.freeze(elsewhere).added.words == "confirmation seed 3; tuning seed 9"


def test_what_was_frozen_by_an_older_version_keeps_its_keys() -> None:
    old, new = asked(range(3), ["adamw", "muon"]), asked(range(4), ["adamw", "muon", "twin"])
    with Folder() as study:
        aged = make_plan(Study.model_validate(old.study), DATA, version=PLAN_VERSION - 1)
        assert not set(aged.distinct_keys) & set(new.distinct_keys)
        study.freeze(aged)
        moved = asked(range(4), ["adamw", "muon", "twin"], resources={"workers": 4})
        assert study.freeze(moved).added.words == "confirmation seed 3; variant twin"
        found = load_plan(study.folder)
        assert set(aged.trials) <= set(found.trials)
        assert len(found.trials) == len(new.trials)
        assert found.plan_version == aged.plan_version
        assert study.freeze(new) is None


def test_additions_are_read_back_and_damage_is_named() -> None:
    with Folder() as study:
        study.freeze(asked(range(3), ["adamw", "muon"]))
        study.freeze(asked(range(4), ["adamw", "muon"]))
        (addition,) = study.folder.additions()
        assert addition.added.seeds == (3,)
        assert read_values(study.folder.plan_path, "")["study"]["seeds"]["confirmation"] == [
            0, 1, 2, 3,
        ]  # fmt: skip
        study.folder.additions_path.write_text("[{}]")
        with pytest.raises(UserError, match=r"additions\.json"):
            study.folder.additions()
