"""The contestants compete on equal terms, and the ladder has a rung for every size and length."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest

from models import build_model
from models.accounting import num_active_parameters
from models.config import ModelConfig, resolve_size

STUDIES = Path(__file__).parents[1] / "studies"


def values_of(name: str) -> dict[str, Any]:
    return tomllib.loads((STUDIES / f"{name}.toml").read_text(encoding="utf-8"))


def active_parameters(model: dict[str, Any]) -> int:
    config = ModelConfig(**resolve_size(model))
    return num_active_parameters(build_model(config, vocab_size=2048))


@pytest.mark.parametrize("name", ["contestants", "contestants-gpu"])
def test_the_dense_task_differs_in_a_model_of_equal_active_size_alone(name: str) -> None:
    suite = values_of(name)
    moe, dense = suite["tasks"]
    assert (set(moe), set(dense)) == ({"name"}, {"name", "model"})
    sizes = [active_parameters(suite["model"] | task.get("model", {})) for task in (moe, dense)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)


@pytest.mark.parametrize("name", ["contestants", "ladder"])
def test_every_contestant_searches_two_settings_over_equal_factors(name: str) -> None:
    variants = values_of(name)["variants"]
    assert len(variants) >= (4 if name == "ladder" else 8)
    for variant in variants:
        factors = [dimension["high"] / dimension["low"] for dimension in variant["space"].values()]
        assert factors == [pytest.approx(25), pytest.approx(100)], variant["name"]
        for setting, dimension in variant["space"].items():
            named = variant["optimizer"].get(setting, dimension["low"])
            assert dimension["low"] <= named <= dimension["high"], variant["name"]


def test_the_contestants_are_the_same_at_every_size() -> None:
    small, large = values_of("contestants"), values_of("contestants-gpu")
    kinds = [[v["optimizer"]["kind"] for v in values["variants"]] for values in (small, large)]
    assert kinds[0] == kinds[1]
    assert {variant["space"] for variant in large["variants"]} == {"default"}
    assert large["variants"][3]["optimizer"]["warmup"] == large["training"]["steps"]
    assert small["variants"][3]["optimizer"]["warmup"] == small["training"]["steps"]


def test_the_ladder_has_three_lengths_of_each_of_three_sizes() -> None:
    values = values_of("ladder")
    rungs: dict[str, list[int]] = {}
    for task in values["tasks"]:
        size = active_parameters(values["model"] | task.get("model", {}))
        rungs.setdefault(f"{task['size']} {size}", []).append(task["training"]["steps"])
        assert task["name"] == f"{task['size']}-{task['length']}"
        assert task["training"]["steps"] == 10 * task["training"]["evaluation_every"]
    assert len(rungs) == 3
    assert all(sorted(lengths) == [60, 120, 240] for lengths in rungs.values())
    sizes = sorted(int(rung.split()[1]) for rung in rungs)
    assert math.log(sizes[2] / sizes[0]) > math.log(5)
