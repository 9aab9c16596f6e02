"""The checks of an installation."""

from __future__ import annotations

import torch

from harness.cli.arithmetic_check import arithmetic_checks
from harness.cli.doctor import OUR_PACKAGES, checks
from harness.study.code_version import code_sha256
from optimizers.hardware import best_dtype_name


def test_this_installation_is_in_order_and_each_package_is_ours() -> None:
    results = {result["check"]: result for result in checks()}
    for name in OUR_PACKAGES:
        assert results[f"package {name} is ours"]["ok"], results
    assert all(result["ok"] for result in results.values()), results
    assert code_sha256() in results["code"]["found"]
    assert results["arithmetic on cpu"]["precision"] in ("fp32", "bf16")


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
