"""The checks of an installation."""

from __future__ import annotations

from harness.cli.doctor import OUR_PACKAGES, checks


def test_this_installation_is_in_order_and_each_package_is_ours() -> None:
    results = {result["check"]: result for result in checks()}
    for name in OUR_PACKAGES:
        assert results[f"package {name} is ours"]["ok"], results
    assert all(result["ok"] for result in results.values()), results
