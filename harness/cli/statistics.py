"""Commands for statistics without training: compare, calibrate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.app import app
from harness.cli.log_options import (
    CurvesOption,
    EmptyFailedOption,
    FormatOption,
    FromLogsOption,
    PathPatternOption,
    PatternOption,
    StepsOption,
    TableOption,
    UnequalStepsOption,
    compare_their_logs,
)
from harness.cli.options import (
    JsonOption,
    MarginOption,
    PairedOption,
    PairingOption,
    UnpairedOption,
    pairing_of,
)
from harness.report.terminal.console import PlainConsole


@app.command()
def compare(
    results: Annotated[
        Path | None,
        typer.Argument(
            metavar="RESULTS.CSV",
            show_default=False,
            help="one row a run, separated by commas; columns variant, seed, value (lower is "
            "better); optional outcome, diverged_at_step, initial_sha256, batches_sha256, unit, "
            "phase",
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="the variant that all others are compared with")
    ] = None,
    alpha: Annotated[float, typer.Option(help="family-wise error rate")] = 0.05,
    pairing: PairingOption = "auto",
    paired: PairedOption = False,
    unpaired: UnpairedOption = False,
    margin: MarginOption = None,
    looks: Annotated[
        str,
        typer.Option(help="numbers of seeds fixed before the first run, e.g. 4,7,10"),
    ] = "",
    target: Annotated[
        float | None,
        typer.Option(help="a value; each variant's mean is tested for being below it, one-sided"),
    ] = None,
    from_logs: FromLogsOption = None,
    log_format: FormatOption = None,
    pattern: PatternOption = None,
    path_pattern: PathPatternOption = None,
    steps: StepsOption = None,
    unequal_steps: UnequalStepsOption = False,
    empty_failed: EmptyFailedOption = False,
    table: TableOption = None,
    curves: CurvesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare variants of any table of results, or of logs: verdicts, intervals, adjusted p.

    optbench compare results.csv --baseline adamw

    optbench compare results.csv --baseline adamw --margin 0.01 --json

    optbench compare --from-logs `'adamw=a/*.txt'` --from-logs `'muon=m/*.txt'` --format nanogpt
    --baseline adamw
    """
    from harness.analysis.from_csv import compare_file
    from harness.errors import UserError
    from harness.report.terminal.analysis import render_analysis

    try:
        numbers = [int(part) for part in looks.split(",") if part.strip()]
    except ValueError:
        raise UserError(f"--looks {looks!r}: write whole numbers, such as 4,7,10") from None
    settings: dict[str, Any] = {
        "baseline": baseline,
        "alpha": alpha,
        "pairing": pairing_of(pairing, paired=paired, unpaired=unpaired),
        "margin": margin,
        "looks": numbers,
        "target": target,
    }
    if from_logs:
        if results is not None:
            raise UserError(f"{results} and --from-logs: give a table or logs, not both")
        compare_their_logs(
            from_logs,
            format_name=log_format,
            pattern=pattern,
            path_pattern=path_pattern,
            steps=steps,
            unequal_steps=unequal_steps,
            empty_failed=empty_failed,
            table=table,
            curves=curves,
            as_json=as_json,
            statistics=settings,
        )
        return
    of_logs = (log_format, pattern, path_pattern, steps, table, curves)
    if any(option is not None for option in of_logs) or unequal_steps or empty_failed:
        raise UserError("options for training logs need --from-logs GLOB")
    if results is None:
        raise UserError("give RESULTS.CSV, or training logs with --from-logs")
    analysis = compare_file(results, **settings)
    if as_json:
        print(json.dumps(analysis.to_json(), indent=1, allow_nan=False))
    else:
        PlainConsole().print(render_analysis(analysis))


@app.command()
def calibrate(
    noise: Annotated[
        Path | None,
        typer.Option(metavar="RESULTS.CSV", help="draw the noise from these results' residuals"),
    ] = None,
    studies: Annotated[int, typer.Option(help="studies a cell", min=100)] = 100_000,
    alpha: Annotated[float, typer.Option(help="family-wise error rate that is promised")] = 0.05,
    seed: Annotated[int, typer.Option(help="of the random generator")] = 0,
    figure: Annotated[Path | None, typer.Option(help="write the figure to this PNG")] = None,
    winners_curse: Annotated[
        bool,
        typer.Option(
            "--winners-curse", help="instead: what the best of 19 variants finds in pure noise"
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check the statistics: false positives, coverage, power, on studies whose truth is known.

    Takes one to two minutes; --studies 2000 gives a rough table in seconds.
    """
    import numpy as np

    from harness.analysis.calibration.calibrate import calibrate as run_calibration
    from harness.analysis.calibration.winners_curse import winners_curse_demo
    from harness.analysis.from_csv import read_results
    from harness.report.figures.calibration import save_figure
    from harness.report.terminal.calibration import render_calibration

    rng = np.random.default_rng(seed)
    if winners_curse:
        print("\n".join(winners_curse_demo(rng).sentences()))
        return
    rows = None if noise is None else read_results(noise)
    result = run_calibration(rng, rows=rows, studies=studies, alpha=alpha)
    if figure is not None:
        save_figure(result, figure)
    if as_json:
        print(json.dumps(result.to_json(), indent=1, allow_nan=False))
    else:
        PlainConsole().print(render_calibration(result))
    if not result.passed:
        raise typer.Exit(1)
