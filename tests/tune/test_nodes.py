"""Every node that can train answers, on the node itself: a real cluster of two raylets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.data import prepare
from harness.study.load import load_study
from tune.checks.mixed_hardware import hardware_here

SCRIPT = Path(__file__).with_name("nodes_of_a_cluster.py")


@pytest.fixture(scope="module")
def answers(study_text: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("nodes") / "tiny.toml"
    file.write_text(study_text)
    dataset = prepare(load_study(file).data)
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS",)}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(dataset.path), dataset.manifest.sha256],
        capture_output=True,
        text=True,
        timeout=400,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_only_node_is_not_asked(answers: dict[str, Any]) -> None:
    assert answers["alone"] == {}


def test_each_node_answers_for_itself_with_what_it_trains_with(answers: dict[str, Any]) -> None:
    here = hardware_here("cpu").name
    assert len(answers["both"]) == 2, "two nodes at one address have two names"
    assert sorted(answers["both"].values(), key=str) == [["large", here], [None, here]]


def test_only_nodes_with_room_for_a_worker_are_asked(answers: dict[str, Any]) -> None:
    (answer,) = answers["large"].values()
    assert answer[0] == "large"


def test_nodes_with_code_data_and_a_way_to_each_other_pass(answers: dict[str, Any]) -> None:
    assert answers["alone checked"] == [], "the driver has just used all of it"
    assert len(answers["checked"]) == 2


def test_a_node_with_other_data_or_no_way_to_the_others_stops_the_study(
    answers: dict[str, Any],
) -> None:
    assert "holds other tokens" in answers["other data"]
    assert "all-reduce" in answers["cut off"]
    assert "nowhere0" in answers["cut off"], "the reason is gloo's own"


def test_the_doctor_asks_every_node_and_measures_the_way_between_them(
    answers: dict[str, Any],
) -> None:
    by_check: dict[str, list[dict[str, Any]]] = {}
    for record in answers["doctor"]:
        assert record["ok"], record
        assert bool(record["advice"]) == (record["level"] == "warning"), record
        by_check.setdefault(record["check"], []).append(record)
    assert "answer" not in by_check
    for check in ("code", "libraries", "devices", "niceness", "clock", "DeepSpeed's operator"):
        assert len({record["where"] for record in by_check[check]}) == 2, check
    (network,) = by_check["network"]
    assert network["nodes"] == 2
    assert network["bus_bytes_per_s"] > 0
    assert all(abs(r["ahead_s"]) <= r["uncertain_s"] + 0.1 for r in by_check["clock"])
    assert len(answers["said"]) == 4, "one line a stage"
