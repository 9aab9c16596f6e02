"""At the end of `make faults`: what was done to studies, how often, and how they ended."""

from __future__ import annotations

import statistics
from collections import defaultdict

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line a fault: times it was done, times all held, and how soon training went on."""
    if terminalreporter.config.getoption("markexpr") != "faults":
        return
    done: dict[str, list[pytest.TestReport]] = defaultdict(list)
    for word in ("passed", "failed"):
        for report in terminalreporter.stats.get(word, []):
            if report.when == "call" and "tests/faults/" in report.nodeid:
                done[_fault(report.nodeid)].append(report)
    if not done:
        return
    terminalreporter.write_sep("=", "faults")
    for fault, reports in done.items():
        passed = sum(report.passed for report in reports)
        line = f"{fault}: {passed} of {len(reports)} ended as undisturbed"
        recoveries = [
            float(value)  # type: ignore[arg-type]
            for report in reports
            for name, value in report.user_properties
            if name == "recovery_s"
        ]
        if recoveries:
            line += f", trained again after {statistics.median(recoveries):.0f} s"
            line += f" (at most {max(recoveries):.0f} s)"
        terminalreporter.write_line(line)


def _fault(nodeid: str) -> str:
    """`test_at_any_moment[kill_a_worker-7]` -> `at any moment: kill a worker`."""
    name, _, parameters = nodeid.rpartition("::")[2].removeprefix("test_").partition("[")
    words = [part for part in parameters.rstrip("]").split("-") if part and not part.isdigit()]
    return ": ".join([name, *words]).replace("_", " ")
