"""Options of `optbench compare` for training logs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.errors import UserError
from harness.report.terminal.console import PlainConsole

PANEL = "Training logs instead of a table"

FromLogsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--from-logs",
        metavar="[NAME=]GLOB",
        help="read the final losses out of these training logs, one run a file; NAME= names their "
        "variant; quote it; may be repeated",
        rich_help_panel=PANEL,
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="whose logs they are: nanogpt, nanochat, modded-nanogpt, llm.c, megatron, hf-trainer "
        "(printed) or hf-trainer-state (trainer_state.json)",
        rich_help_panel=PANEL,
    ),
]
PatternOption = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="instead of --format: found in a line, with the named groups loss and, if it is "
        r"there, step: `step (?P<step>\d+) val (?P<loss>\S+)`; the last match counts",
        rich_help_panel=PANEL,
    ),
]
PathPatternOption = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="found in a path, with the named groups variant, seed or both: "
        r"`(?P<variant>[^/]+)/seed(?P<seed>\d+)`",
        rich_help_panel=PANEL,
    ),
]
StepsOption = Annotated[
    float | None,
    typer.Option(help="compare the losses at this step, not at the end", rich_help_panel=PANEL),
]
UnequalStepsOption = Annotated[
    bool,
    typer.Option(
        "--unequal-steps",
        help="the runs had equal tokens, though not equal steps",
        rich_help_panel=PANEL,
    ),
]
EmptyFailedOption = Annotated[
    bool,
    typer.Option(
        "--empty-failed",
        help="a log without a loss is a run that failed, no mistake",
        rich_help_panel=PANEL,
    ),
]
TableOption = Annotated[
    Path | None,
    typer.Option(
        metavar="OUT.CSV",
        help="write what was read, to be checked; compare OUT.CSV gives the same verdicts",
        rich_help_panel=PANEL,
    ),
]
CurvesOption = Annotated[
    Path | None,
    typer.Option(metavar="OUT.CSV", help="write every loss of every log", rich_help_panel=PANEL),
]


def compare_their_logs(
    sources: Sequence[str],
    *,
    format_name: str | None,
    pattern: str | None,
    path_pattern: str | None,
    steps: float | None,
    unequal_steps: bool,
    empty_failed: bool,
    table: Path | None,
    curves: Path | None,
    as_json: bool,
    statistics: Mapping[str, Any],
) -> None:
    """Reads, writes what was read, then compares and prints.

    Args:
        statistics: baseline, alpha, pairing, margin, looks and target.
    """
    from rich.console import Console
    from rich.text import Text

    from harness.analysis.logs.formats import log_format
    from harness.analysis.logs.from_logs import compare_logs, curves_csv, read_runs, table_csv
    from harness.report.terminal.analysis import render_analysis

    form = log_format(name=format_name, pattern=pattern)
    if table is not None and curves is not None and table.resolve() == curves.resolve():
        raise UserError(f"--table and --curves are both {table}: give each a file of its own")
    with Console(stderr=True).status("reading the logs"):
        runs = read_runs(
            sources,
            form,
            path_pattern=path_pattern,
            steps=steps,
            unequal_steps=unequal_steps,
            empty_failed=empty_failed,
        )
    logs = {run.log.path.resolve() for run in runs}
    for path, text in ((table, table_csv), (curves, curves_csv)):
        if path is not None:
            _write(path, text(runs), logs)
    found = compare_logs(runs, form, steps=steps, **statistics)
    if as_json:
        print(json.dumps(found.to_json(), indent=1, allow_nan=False))
        return
    console = PlainConsole()
    console.print(render_analysis(found.analysis))
    for way in found.ways:
        console.print(Text(f"to a loss of {statistics['target']:g}, {way.variant}: {way.sentence}"))


def _write(path: Path, text: str, logs: set[Path]) -> None:
    if path.resolve() in logs:
        raise UserError(f"{path} is one of the logs: write the table elsewhere")
    try:
        # The name of a log need not be UTF-8.
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
