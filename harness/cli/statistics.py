"""Commands for statistics without training: compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from harness.cli.app import app
from harness.cli.options import JsonOption


@app.command()
def compare(
    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS.CSV",
            help="one row a run; columns variant, seed, value (lower is better); optional outcome, "
            "diverged_at_step, initial_sha256, batches_sha256",
        ),
    ],
    baseline: Annotated[str, typer.Option(help="the variant that all others are compared with")],
    alpha: Annotated[float, typer.Option(help="family-wise error rate", min=0.0, max=1.0)] = 0.05,
    pairing: Annotated[
        Literal["auto", "paired", "unpaired"],
        typer.Option(
            help="auto: paired if the hash columns certify it; paired, unpaired: by your word"
        ),
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Compare variants of anybody's table of results: verdicts, intervals, adjusted p.

    optbench compare results.csv --baseline adamw
    """
    from pydantic import ValidationError

    from harness.analysis import AnalysisSettings, analyse
    from harness.compare import check_holes, read_results, render
    from harness.errors import UserError
    from harness.mistakes import describe

    try:
        settings = AnalysisSettings(baseline=baseline, alpha=alpha, pairing=pairing)
    except ValidationError as error:
        raise UserError("; ".join(describe(error, AnalysisSettings))) from None
    rows = read_results(results)
    check_holes(rows, settings)
    analysis = analyse(rows, settings)
    if as_json:
        print(json.dumps(analysis.to_json(), indent=1, allow_nan=False))
    else:
        Console().print(render(analysis))
