"""The checks of an installation: of this machine, and as the command shows them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import harness.cli.main  # noqa: F401  (registers the commands)
from harness.cli.app import app
from harness.cli.arithmetic_check import arithmetic_checks
from harness.cli.doctor import summary, table, tracking_finding
from harness.report.terminal.console import PlainConsole
from harness.study.code_version import code_sha256
from optimizers.hardware import best_dtype_name
from tune.checks.findings import failure, ok, warning
from tune.checks.node_report import OUR_PACKAGES


@pytest.fixture(scope="module")
def run_without_ray(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str, str]:
    """A process of its own, which also says whether Ray or MLflow was imported."""
    script = """
import sys
from harness.cli.app import app
import harness.cli.main
try:
    app()
finally:
    print(sorted({"ray", "mlflow"} & set(sys.modules)), file=sys.stderr)
"""
    runs = tmp_path_factory.mktemp("runs")
    done = subprocess.run(
        [sys.executable, "-c", script, "doctor", "--json", "--runs-dir", str(runs / "new")],
        capture_output=True,
        text=True,
    )
    assert not [*runs.iterdir()], "nothing is left behind"
    return done.returncode, done.stdout, done.stderr


def test_this_installation_is_in_order_and_each_package_is_ours(
    run_without_ray: tuple[int, str, str],
) -> None:
    code, stdout, stderr = run_without_ray
    records = {record["check"]: record for record in json.loads(stdout)}
    assert code == 0, records
    for record in records.values():
        assert set(record) >= {"check", "found", "level", "ok", "advice", "where"}
        assert record["ok"], record
    for name in OUR_PACKAGES:
        assert f"package {name} is ours" in records
    assert code_sha256() in records["code"]["found"]
    assert records["arithmetic on cpu"]["precision"] in ("fp32", "bf16")
    assert records["data cache"]["free_bytes"] > 0
    assert "MLflow" in records
    assert "looking at this machine" in stderr, "who waits is told for what"


def test_without_an_address_no_ray_is_imported(run_without_ray: tuple[int, str, str]) -> None:
    assert run_without_ray[2].splitlines()[-1] == "[]"


def test_the_doctor_advises_what_the_hardware_is_good_at_with_figures() -> None:
    before = torch.get_num_threads()
    found = next(arithmetic_checks(threads=2)).record()
    best, reason = best_dtype_name("cpu")
    assert found["precision"] == found["ns_dtype"] == best
    assert min(found["gflops"].values()) > 0.0
    assert f'precision = "{best}"' in found["found"]
    assert "2 threads: fp32 " in found["found"]
    assert reason in found["found"]
    assert torch.get_num_threads() == before


def test_an_mlflow_that_cannot_be_written_is_a_failure_with_what_to_do(tmp_path: Path) -> None:
    found = tracking_finding("http://127.0.0.1:9", tmp_path, say=lambda doing: None)
    assert found.level == "failure"
    assert "connection refused" in found.found
    assert "optbench sync" in found.advice


def test_the_table_names_nodes_and_what_to_do_and_the_summary_counts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    findings = [
        ok("code", "abc", where="10.0.0.1"),
        ok("code", "abc", where="10.0.0.2"),
        warning("clock", "behind", "set it", where="10.0.0.2"),
        failure("libraries", "torch 1", "install torch 2", where="10.0.0.2"),
    ]
    PlainConsole(width=100).print(table(findings))
    shown = capsys.readouterr().out
    assert "10.0.0.1, 10.0.0.2" in shown
    assert "-> install torch 2" in shown
    assert summary(findings) == "1 failure, 1 warning"
    assert summary(findings[:2]) == "everything is in order"


def test_an_address_that_makes_no_sense_is_a_mistake_and_not_a_finding() -> None:
    result = CliRunner().invoke(app, ["doctor", "--address", "ray://head:10001"])
    assert "run this command on a node" in str(result.exception)
