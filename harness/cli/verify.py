"""`optbench verify-optimizer`: an optimizer's promises, checked in real workers."""

from __future__ import annotations

import json
import math
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.app import app
from harness.cli.options import JsonOption
from harness.errors import UserError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.verification import CheckResult

STYLES = {"pass": "green", "fail": "red", "error": "red", "not applicable": "dim"}


@app.command("verify-optimizer")
def verify_optimizer(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="OPTIMIZER",
            help="a registered kind, such as muon, or a class of your own as "
            "my_package.my_module:MyOptimizer (the current folder is searched)",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="one of the optimizer's settings, e.g. --set lr=0.01; may be repeated",
        ),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="only this backend of the gangs: ddp, zero0 to zero3 or fsdp2; may repeat"
        ),
    ] = None,
    workers: Annotated[
        list[int] | None,
        typer.Option(help="only this number of workers: 1 (one process), 2 or 4; may repeat"),
    ] = None,
    check: Annotated[
        list[str] | None, typer.Option(help="only this check (see --list); may repeat")
    ] = None,
    patience: Annotated[
        float,
        typer.Option(min=1.0, help="seconds of silence after which a gang counts as hung"),
    ] = 60.0,
    list_checks: Annotated[
        bool, typer.Option("--list", help="print what each check does and what a failure means")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check an optimizer's promises in real workers, under every backend.

    A tiny Mixture-of-Experts model is trained on the CPU for a few steps in one process, and in
    gangs of 2 and 4 real processes under ddp, ZeRO 0 to 3 and FSDP2. Each check says pass, fail or
    not applicable, with the figure that it measured; a failure says what it means. It takes some
    minutes on two cores; --workers 1 is faster, while you write.

    A plain torch.optim.Optimizer runs in one process and under ddp. A subclass of
    optimizers.elementwise.base.ElementwiseOptimizer runs under every backend.

    Exit code 1: a check failed; 2: the optimizer, a setting or a name is wrong, or a check that was
    asked for is applicable nowhere.

    Examples:

    * optbench verify-optimizer muon --set num_steps=8

    * optbench verify-optimizer tiger:Tiger --workers 1 --workers 2 --backend zero2
    """
    from harness.verification import BACKENDS
    from harness.verification.catalogue import CHECKS, chosen
    from harness.verification.places import SIZES, places

    if list_checks:
        print(json.dumps(_catalogue(), indent=2) if as_json else _list(CHECKS.values()))
        return
    if target is None:
        raise UserError(
            "no optimizer is named: give a registered kind, such as muon, or "
            "my_package.my_module:MyOptimizer"
        )
    where, what = places(backend or tuple(BACKENDS), workers or SIZES), chosen(check)
    from harness.verification.subjects import subject_of
    from harness.verification.suite import GangsFailed, results_of

    with redirect_stdout(sys.stderr):  # what the user's module prints is none of our JSON
        subject = subject_of(target, dict(map(_setting, settings or ())))
    print(f"starting the workers for {target}", file=sys.stderr)
    results: list[CheckResult] = []
    try:
        for result in results_of(subject, where, what, patience_s=patience):
            results.append(result)
            if result.status != "not applicable":
                total = len(where) * len(what)
                print(f"  {len(results)}/{total} {result}", file=sys.stderr, flush=True)
    except GangsFailed as error:
        print(f"error: the process that starts the workers ended\n{error}", file=sys.stderr)
        raise typer.Exit(1) from None
    missing = _not_run(results, check or ["starts"])
    _show(target, results, order=[place.label for place in where], missing=missing, as_json=as_json)
    if any(result.is_bad for result in results):
        raise typer.Exit(1)
    if missing:
        told = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        raise UserError(f"not checked, since applicable nowhere here: {told}")


def _not_run(results: Sequence[CheckResult], names: Sequence[str]) -> dict[str, str]:
    """Checks that were asked for and are applicable nowhere -> why."""
    ran = {result.check for result in results if result.status != "not applicable"}
    return {
        name: ", ".join(dict.fromkeys(r.detail for r in results if r.check == name))
        for name in names
        if name not in ran
    }


def _setting(text: str) -> tuple[str, Any]:
    """`name=value`, the value as TOML writes it, or a bare word."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(f"--set {text!r}: give NAME=VALUE, for example --set lr=0.01")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value


def _catalogue() -> dict[str, dict[str, str]]:
    from harness.verification import CHECKS

    return {name: {"does": c.does, "failure_means": c.meaning} for name, c in CHECKS.items()}


def _list(checks: Any) -> str:
    return "\n\n".join(f"{c.name}\n  {c.does}.\n  Failure: {c.meaning}." for c in checks)


def _show(
    target: str,
    results: Sequence[CheckResult],
    *,
    order: Sequence[str],
    missing: Mapping[str, str],
    as_json: bool,
) -> None:
    counts = Counter(result.status for result in results)
    bad = any(result.is_bad for result in results)
    if as_json:
        found = {
            "optimizer": target,
            "conforms": not bad and not missing,
            "counts": dict(counts),
            "results": [_strict(result.as_json()) for result in results],
        }
        print(json.dumps(found, indent=2, allow_nan=False))
        return
    from harness.report.terminal.console import PlainConsole

    console = PlainConsole()
    console.print(_table(results, order))
    for result in results:
        if result.is_bad:
            console.print(f"{result}\n  It means: {result.meaning}.\n", style="red")
    for reason, labels in _reasons(results).items():
        console.print(f"not applicable in {', '.join(labels)}: {reason}", style="dim")
    said = ", ".join(f"{count} {status}" for status, count in counts.items())
    verdict = "does not conform" if bad else "is not checked" if missing else "conforms"
    console.print(f"{target} {verdict}: {said}")


def _strict(result: dict[str, Any]) -> dict[str, Any]:
    """A figure that is infinite or no number is none in JSON."""
    figure = result["figure"]
    return result if figure is None or math.isfinite(figure) else {**result, "figure": None}


def _table(results: Sequence[CheckResult], order: Sequence[str]) -> RenderableType:
    """A row for each check and result, and the places that share it, with the largest figure."""
    from rich.table import Table
    from rich.text import Text

    from harness.verification import CHECKS

    table = Table(box=None, pad_edge=False)
    for column in ("check", "where", "result", "figure", "limit"):
        table.add_column(column, justify="right" if column in ("figure", "limit") else "left")
    for check in (name for name in CHECKS if any(result.check == name for result in results)):
        for status in STYLES:
            some = [r for r in results if r.check == check and r.status == status]
            if not some or (
                status == "not applicable"
                and any(r.check == check and r.status != status for r in results)
            ):
                continue
            figures = [r.figure for r in some if r.figure is not None]
            limits = [r.limit for r in some if r.limit is not None]
            table.add_row(
                check,
                _where({r.place for r in some}, order),
                Text(status, style=STYLES[status]),
                f"{max(figures):.2g}" if figures else "",
                f"{max(limits):.2g}" if limits else "",
            )
    return table


def _where(labels: set[str], order: Sequence[str]) -> str:
    """`one process, ddp x 2/4` from the labels of places."""
    if len(order) > 1 and labels == set(order):
        return "everywhere"
    sizes: dict[str, list[str]] = {}
    for label in order:
        if label in labels:
            backend, _, workers = label.partition(" x ")
            sizes.setdefault(backend, []).extend([workers] if workers else [])
    return ", ".join(f"{b} x {'/'.join(n)}" if n else b for b, n in sizes.items())


def _reasons(results: Sequence[CheckResult]) -> dict[str, list[str]]:
    """Why a whole place is not applicable: reason -> places."""
    reasons: dict[str, list[str]] = {}
    for result in results:
        if result.check == "starts" and result.status == "not applicable":
            reasons.setdefault(result.detail, []).append(result.place)
    return reasons
