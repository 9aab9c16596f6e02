"""`make cluster-test` proves its case or fails; in other runs these tests are skipped instead."""

from __future__ import annotations

import pytest
from namespace_hosts import why_not
from team_on_hosts import why_no_postgres


def pytest_sessionstart(session: pytest.Session) -> None:
    if session.config.getoption("markexpr") == "cluster":
        lacking = why_not() or why_no_postgres()
        if lacking:
            pytest.exit(f"make cluster-test {lacking}", returncode=1)
