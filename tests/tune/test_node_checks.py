"""What a node's report means: pure rules, tried on made-up reports and on this machine's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tune.checks.findings import Finding, folded, ok
from tune.checks.meeting import Meeting
from tune.checks.node_checks import (
    GIB,
    MIB,
    clock,
    comforts,
    folder_finding,
    network,
    niceness,
    problems,
    unanswered,
)
from tune.checks.node_report import (
    CACHE,
    RAY_FILES,
    RUNS,
    SHARED_MEMORY,
    Folder,
    NodeReport,
    report_here,
)
from tune.checks.operator_check import judge

ROOMY = Folder(
    path="/data", exists=True, writable=True, free_bytes=500 * GIB, total_bytes=900 * GIB
)


@pytest.fixture(scope="module")
def report() -> NodeReport:
    here = report_here("cpu")
    return replace(here, folders=dict.fromkeys((CACHE, RAY_FILES, SHARED_MEMORY), ROOMY))


def bad(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {each.check: each for each in findings if each.level != "ok"}


def test_a_node_like_the_driver_has_nothing_to_report(report: NodeReport) -> None:
    assert not bad(problems("10.0.0.2", report, report))
    assert not bad(comforts("10.0.0.2", report, gpus_of_ray=len(report.gpus)))


def test_what_computes_something_else_is_a_failure_and_names_both_sides(
    report: NodeReport,
) -> None:
    node = replace(
        report,
        hardware=replace(report.hardware, code="f" * 16, version="0.0.9"),
        python="3.8.1",
        libraries={**report.libraries, "torch": "2.4.0", "deepspeed": ""},
        strangers={"models": "/usr/lib/models"},
    )
    found = bad(problems("10.0.0.2", node, report))
    assert set(found) == {"code", "python", "libraries", "packages"}
    assert all(each.level == "failure" and each.advice for each in found.values())
    assert all(each.where == "10.0.0.2" for each in found.values())
    assert "0.0.9" in found["code"].found
    assert report.hardware.version in found["code"].found
    assert f"torch 2.4.0 (the driver: {report.libraries['torch']})" in found["libraries"].found
    assert "deepspeed not at all" in found["libraries"].found
    assert "/usr/lib/models" in found["packages"].found


def test_another_build_of_the_same_torch_is_no_other_version(report: NodeReport) -> None:
    torch = report.libraries["torch"].partition("+")[0]
    node = replace(report, libraries={**report.libraries, "torch": f"{torch}+cu130"})
    assert not bad(problems("10.0.0.2", node, report))


def test_another_patch_of_python_is_a_warning(report: NodeReport) -> None:
    major, minor, _ = report.python.split(".")
    node = replace(report, python=f"{major}.{minor}.99")
    assert bad(problems("n", node, report))["python"].level == "warning"


@pytest.mark.parametrize(
    ("purpose", "change", "level"),
    [
        (CACHE, {}, "ok"),
        (CACHE, {"free_bytes": GIB}, "warning"),
        (CACHE, {"free_bytes": 5 * MIB}, "failure"),
        (CACHE, {"writable": False}, "warning"),
        (CACHE, {"writable": False, "exists": False}, "failure"),
        (RUNS, {"writable": False}, "failure"),
        (RUNS, {"exists": False}, "ok"),
        (RAY_FILES, {"free_bytes": 40 * GIB}, "warning"),
        (SHARED_MEMORY, {"free_bytes": 60 * MIB, "total_bytes": 64 * MIB}, "warning"),
    ],
)
def test_folders_are_judged_by_what_they_are_for(
    purpose: str, change: dict[str, object], level: str
) -> None:
    folder = replace(ROOMY, **change)  # type: ignore[arg-type]
    found = folder_finding("n", purpose, folder)
    assert found.level == level, found
    assert "/data" in found.found
    assert bool(found.advice) == (level != "ok")
    assert found.record()["free_bytes"] == folder.free_bytes


def test_a_folder_is_tried_out_and_left_as_it_was(tmp_path: Path) -> None:
    from tune.checks.node_report import look_at

    assert look_at(tmp_path).writable
    assert not [*tmp_path.iterdir()]
    new = look_at(tmp_path / "a" / "b")
    assert (new.exists, new.writable) == (False, True)
    assert not [*tmp_path.iterdir()], "it is not made"
    (tmp_path / "file").touch()
    assert not look_at(tmp_path / "file").writable
    assert not look_at(Path("/proc/1")).writable, "a file system that takes no file"


def test_a_gpu_that_ray_gives_away_and_torch_does_not_see_is_a_failure(
    report: NodeReport,
) -> None:
    gpus = len(report.gpus) + 1
    assert bad(comforts("n", report, gpus_of_ray=gpus))["devices"].level == "failure"


def test_workers_that_give_way_to_others_are_a_warning() -> None:
    assert niceness("n", 0).level == "ok"
    assert niceness("n", 15).level == "warning"
    assert "RAY_worker_niceness=0" in niceness("n", 15).advice


def test_a_clock_is_wrong_only_by_more_than_the_way_to_it_may_explain() -> None:
    assert clock("n", ahead_s=-0.02, uncertain_s=0.001).level == "ok"
    assert clock("n", ahead_s=1.5, uncertain_s=1.0).level == "ok"
    wrong = clock("n", ahead_s=-90.0, uncertain_s=0.01)
    assert (wrong.level, wrong.found) == ("warning", "its clock is 90.0 s behind the driver's")


def test_the_bandwidth_is_that_of_an_all_reduce_on_each_nodes_network() -> None:
    two = Meeting(nodes=2, message_bytes=16 * MIB, seconds=0.1)
    assert two.bus_bytes_per_s == pytest.approx(16 * MIB / 0.1)
    many = Meeting(nodes=100, message_bytes=16 * MIB, seconds=0.1)
    assert many.bus_bytes_per_s == pytest.approx(1.98 * 16 * MIB / 0.1)
    fast = network(nodes=2, message_bytes=16 * MIB, seconds=0.1, bus_bytes_per_s=1.7e8)
    slow = network(nodes=2, message_bytes=MIB, seconds=1.0, bus_bytes_per_s=1e6)
    assert (fast.level, slow.level) == ("ok", "warning")
    assert "fewer resources.workers" in slow.advice


def test_a_node_that_could_not_be_asked_fails_and_one_that_was_silent_may_be_let_pass() -> None:
    reasons = {"a": "ModuleNotFoundError: tune"}, {"b": "no answer"}
    failed, missing = unanswered(*reasons, silence="warning")
    assert (failed.where, failed.level) == ("a", "failure")
    assert (missing.where, missing.level) == ("b", "warning")


def test_what_nodes_have_in_common_is_told_once() -> None:
    nodes = [ok("code", "the same", where=f"10.0.0.{i}") for i in range(6)]
    (one,) = folded(nodes)
    assert one.where == "10.0.0.0, 10.0.0.1, 10.0.0.2, 10.0.0.3 and 2 more"
    assert len(folded([*nodes, ok("code", "other", where="x")])) == 2


@pytest.mark.parametrize(
    ("said", "error", "level"),
    [
        ("", "No module named 'deepspeed'", "failure"),
        ("IMPORTED", "", "ok"),
        ("IMPORTED LOADED", "", "ok"),
        ("IMPORTED", "no answer within 60 s", "warning"),
    ],
)
def test_only_an_import_that_fails_keeps_deepspeed_from_training(
    said: str, error: str, level: str
) -> None:
    assert judge(said, error, compilers="needs g++ on the PATH").level == level
