"""`optbench doctor`: what this machine, the cluster and MLflow say, as findings in their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.arithmetic_check import arithmetic_checks
from tune.checks.findings import HERE, Finding, Level, failure, folded, ok
from tune.checks.node_checks import comforts, folder_finding
from tune.checks.node_report import OUR_PACKAGES, ROOT, RUNS, look_at, origin, report_here
from tune.checks.operator_check import operator_here

if TYPE_CHECKING:
    from rich.console import RenderableType

LIBRARIES = ("torch", "accelerate", "deepspeed", "ray", "datasets", "mlflow", "scipy")
STYLES = {"ok": "green", "warning": "yellow", "failure": "red"}
BAD: tuple[Level, ...] = ("failure", "warning")

Say = Callable[[str], None]


def local_findings(*, threads: int, runs_dir: Path, build: bool, say: Say) -> Iterator[Finding]:
    """Of this machine, where the driver runs. Starts no Ray.

    Args:
        threads: of a worker, for the speed of its products of matrices.
        build: see `operator_here`.
        say: told what begins, for somebody who waits.
    """
    say("looking at this machine")
    yield from map(_is_ours, OUR_PACKAGES)
    yield from map(_is_installed, LIBRARIES)
    here = report_here("cpu")
    yield ok("code", f"{here.hardware.version}, sources {here.hardware.code}")
    yield next(iter(comforts(HERE, here)))
    for purpose, folder in {**here.folders, RUNS: look_at(runs_dir.resolve())}.items():
        yield folder_finding(HERE, purpose, folder)
    say("compiling DeepSpeed's operator" if build else "opening DeepSpeed")
    yield operator_here(build=build)
    say("multiplying matrices")
    yield from arithmetic_checks(threads=threads)


def join(address: str, *, say: Say) -> None:
    """First of all: an address where no cluster answers is a mistake, and no finding.

    Raises:
        UserError: no cluster answers there.
    """
    from tune.cluster.connection import connect

    say(f"joining the cluster at {address}")
    connect(address)


def tracking_finding(tracking_uri: str | None, runs_dir: Path, *, say: Say) -> Finding:
    """Whether the driver, which alone writes to MLflow, can do it from here under this address."""
    from harness.tracking.probe import probe, probe_file
    from harness.tracking.tracker import TrackingUnavailable

    say("writing to MLflow")
    try:
        if tracking_uri is None:
            return ok("MLflow", probe_file(runs_dir / "mlflow.db"))
        return ok("MLflow", probe(tracking_uri))
    except TrackingUnavailable as error:
        return failure(
            "MLflow",
            str(error),
            "a study trains without it, and `optbench sync` writes later what was left out",
        )


def _is_ours(name: str) -> Finding:
    """The import names exist on package indexes too: ours lie in one folder."""
    found, check = origin(name), f"package {name} is ours"
    if found == ROOT / name:
        return ok(check, str(found))
    return failure(
        check,
        f"{found or 'nothing'} lies where {ROOT / name} should",
        f"uninstall the other package of the name {name}, or use an environment of its own",
    )


def _is_installed(name: str) -> Finding:
    try:
        return ok(f"library {name}", version(name))
    except PackageNotFoundError:
        needs = ", ".join(r for r in distribution("optbench").requires or () if r.startswith(name))
        return failure(f"library {name}", "not installed", f"pip install '{needs}'")


def table(findings: list[Finding]) -> RenderableType:
    """One row for each finding, and for what several nodes have in common."""
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, pad_edge=False)
    places = any(finding.where != HERE for finding in findings)
    for column in ("", "check", *(["where"] if places else []), "found"):
        rows.add_column(column)
    for finding in folded(findings):
        found = Text(finding.found)
        if finding.advice:
            found.append(f"\n-> {finding.advice}", style=STYLES[finding.level])
        mark = Text(finding.level, style=STYLES[finding.level])
        rows.add_row(mark, finding.check, *([finding.where] if places else []), found)
    return rows


def summary(findings: list[Finding]) -> str:
    levels = Counter(finding.level for finding in folded(findings))
    counts = [
        f"{levels[level]} {level}{'s' if levels[level] > 1 else ''}"
        for level in BAD
        if levels[level]
    ]
    return ", ".join(counts) or "everything is in order"


def records(findings: list[Finding]) -> list[dict[str, Any]]:
    return [finding.record() for finding in findings]
