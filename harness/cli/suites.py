"""Commands for suites: several tasks, the same contestants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import app
from harness.cli.options import (
    JsonOption,
    MarginOption,
    PairedOption,
    PairingOption,
    UnpairedOption,
    pairing_of,
)
from harness.report.terminal.console import PlainConsole

suite = typer.Typer(
    name="suite", help="Judge the same contestants over several tasks.", no_args_is_help=True
)
app.add_typer(suite)


@suite.callback()
def _group() -> None:
    """Judge the same contestants over several tasks. `optbench run SUITE` trains them."""


@suite.command()
def score(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE.CSV",
            help="one row a run; columns task, variant, seed, value (lower is better); optional "
            "one of steps_to_target, tokens_to_target, seconds_to_target (empty: never arrived), "
            "size (active parameters), tokens (of a whole run), and those of `optbench compare`",
        ),
    ],
    baseline: Annotated[
        str | None, typer.Option(help="the contestant that all others are compared with")
    ] = None,
    alpha: Annotated[
        float, typer.Option(help="chance of any false verdict, over all tasks and contestants")
    ] = 0.05,
    pairing: PairingOption = "auto",
    paired: PairedOption = False,
    unpaired: UnpairedOption = False,
    margin: MarginOption = None,
    largest_ratio: Annotated[
        float, typer.Option(help="profiles end at so many times the fastest; AlgoPerf's is 4")
    ] = 4.0,
    at_size: Annotated[
        float | None,
        typer.Option(
            help="read the speed-up's line at a model of so many active parameters; default: ten "
            "times the largest"
        ),
    ] = None,
    at_tokens: Annotated[
        float | None, typer.Option(help="the same for a run of so many tokens")
    ] = None,
    resamples: Annotated[int, typer.Option(help="of the bootstrap, stratified by task")] = 2000,
    seed: Annotated[int, typer.Option(help="of the bootstrap")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Score any table of several tasks: leaderboard, verdicts, ranks, speed-up against size.

    optbench suite score results.csv --baseline adamw --paired

    optbench suite score results.csv --baseline adamw --at-size 1e9 --json
    """
    from harness.analysis.suite.from_table import score_file
    from harness.analysis.suite.results import Axis
    from harness.report.terminal.suite import render_suite

    larger: dict[Axis, float] = {}
    if at_size is not None:
        larger["size"] = at_size
    if at_tokens is not None:
        larger["tokens"] = at_tokens
    analysis = score_file(
        table,
        baseline=baseline,
        pairing=pairing_of(pairing, paired=paired, unpaired=unpaired),
        margin=margin,
        larger=larger,
        alpha=alpha,
        largest_ratio=largest_ratio,
        resamples=resamples,
        seed=seed,
    )
    if as_json:
        print(json.dumps(analysis.to_json(), indent=1, allow_nan=False))
    else:
        PlainConsole().print(render_suite(analysis, read_at=larger))


@suite.command()
def calibrate(
    suites: Annotated[int, typer.Option(help="simulated suites", min=20)] = 500,
    tasks: Annotated[int, typer.Option(help="of each suite", min=2)] = 5,
    seeds: Annotated[int, typer.Option(help="of each task", min=3)] = 5,
    seed: Annotated[int, typer.Option(help="of the random generator")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Check the statistics of suites on made-up ones whose truth is known.

    Share of suites with any false verdict, and how often each interval holds the truth. Half a
    minute; the margin of a share p is sqrt(p (1 - p) / suites).
    """
    import numpy as np

    from harness.analysis.calibration.suites import calibrate_suites

    found = calibrate_suites(np.random.default_rng(seed), suites=suites, tasks=tasks, seeds=seeds)
    if as_json:
        print(json.dumps(found.to_json(), indent=1, allow_nan=False))
        return
    print(
        f"any false verdict: {found.false_suites:.3f} of suites, at most {found.alpha:g} promised"
    )
    print(f"coverage of intervals that promise {1 - found.alpha:g} (of plain percentiles):")
    for name, share in found.coverage.items():
        print(f"  {name}: {share:.3f} ({found.percentile_coverage[name]:.3f})")
