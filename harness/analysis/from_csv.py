"""`optbench compare`: the statistics for any table of results.

The file is a CSV with a header and one row a run. Required columns: `variant`, `seed`, `value`.
Optional: `outcome` (completed, diverged, stopped, failed, out_of_memory), `diverged_at_step`,
`initial_sha256` with `batches_sha256`, which prove that two runs of a seed are a pair, and
`precision`, `ns_dtype`, `device_type`, `torch_version`, `code_version` and `code_sha256`, which can
still disprove it; `unit`: what the values are counted in, such as nats, for the sentences; and
`phase`: only rows of the confirmation are read. The seeds of the tuning chose the hyperparameters,
and a horizon is the baseline at another length.

Whatever the file holds, a person sees either an analysis or one list of mistakes with their lines.
"""

import csv
import difflib
import math
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from harness.analysis.compare import analyse
from harness.analysis.result_rows import COMPUTED_COLUMNS, ResultRow, computed_of
from harness.analysis.results import Analysis
from harness.analysis.stats.pairing import Pairing
from harness.errors import UserError
from harness.study.settings import AnalysisSettings
from harness.study.validation_messages import describe
from harness.training.records import OUTCOMES

REQUIRED_COLUMNS = ("variant", "seed", "value")
OPTIONAL_COLUMNS = (
    "outcome",
    "initial_sha256",
    "batches_sha256",
    "diverged_at_step",
    "phase",
)
UNIT_COLUMN = "unit"
FURTHER_COLUMNS = (UNIT_COLUMN, *COMPUTED_COLUMNS)
"""Optional too; people have columns like `device` of their own, so no near miss is refused."""
MAXIMUM_SHOWN_MISTAKES = 20

PHASES = ("tuning", "confirmation", "horizon")

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
"""What tables are separated by besides commas, and how it is called."""

LARGEST_VALUE = 1e100
"""The statistics square values and add the squares: from 1e150 on that exceeds double precision."""

SMALLEST_VALUE = 1e-100
"""Of a value other than 0: the squares of smaller ones lose their digits, from 1e-154 on."""

SMALLEST_ALPHA = 1e-9
"""Shared by as many variants as a table can hold, it still differs from 0 next to 1."""

LARGEST_WHOLE_NUMBER = 10**15
"""Seeds and steps beyond it are no longer told apart in double precision, nor by anybody."""

MAXIMUM_SHOWN_SEEDS = 8
MAXIMUM_SHOWN_CHARACTERS = 40


def compare_file(
    path: Path,
    *,
    baseline: str | None = None,
    alpha: float = 0.05,
    pairing: Pairing = "auto",
    margin: float | None = None,
    looks: Sequence[int] = (),
    target: float | None = None,
) -> Analysis:
    """Reads, checks and analyses a CSV: all of `optbench compare` but the printing.

    Args:
        baseline: may be left out if the table has one variant only (then a target is needed).
        margin: smallest difference that matters, in the unit of the values; None: no equivalence.
        looks: numbers of seeds fixed before the first run; empty: one look at all of them.
        target: each variant's mean is tested for being below it, one-sided.

    Raises:
        UserError: every mistake of the options, or every mistake of the file.
    """
    return compare_rows(
        read_results(path),
        baseline=baseline,
        alpha=alpha,
        pairing=pairing,
        margin=margin,
        looks=looks,
        target=target,
    )


def compare_rows(
    rows: Sequence[ResultRow],
    *,
    baseline: str | None = None,
    alpha: float = 0.05,
    pairing: Pairing = "auto",
    margin: float | None = None,
    looks: Sequence[int] = (),
    target: float | None = None,
) -> Analysis:
    """As `compare_file`, of rows that are at hand.

    Raises:
        UserError: every mistake of the options, or holes among the rows.
    """
    _check_options(alpha=alpha, margin=margin, target=target)
    names = list(dict.fromkeys(row.variant for row in rows))
    if baseline is None and len(names) > 1:
        raise UserError(f"--baseline is missing: choose one of {', '.join(names)}")
    try:
        settings = AnalysisSettings(
            baseline=names[0] if baseline is None else baseline,
            alpha=alpha,
            pairing=pairing,
            margin_nats=margin,
            looks=tuple(looks),
            target=target,
        )
    except ValidationError as error:
        raise UserError("; ".join(describe(error, AnalysisSettings))) from None
    for row in rows:
        if row.value is not None and not _computable(row.value):
            raise UserError(
                f"variant {row.variant!r}, seed {row.seed}: value {row.value:g} "
                f"{_out_of_range(row.value)}"
            )
    check_holes(rows, settings)
    return analyse(rows, settings)


def _check_options(*, alpha: float, margin: float | None, target: float | None) -> None:
    """What the settings of a study allow and double precision does not."""
    mistakes = []
    if 0.0 < alpha < SMALLEST_ALPHA:
        mistakes.append(f"--alpha ({alpha:g}) must be at least {SMALLEST_ALPHA:g}")
    for name, number in (("--margin", margin), ("--target", target)):
        # A margin of 0 and a target of infinity are refused with the other settings.
        if number and math.isfinite(number) and not _computable(number):
            mistakes.append(f"{name} ({number:g}) {_out_of_range(number)}")
    if margin == math.inf:
        mistakes.append("--margin (inf) must be finite: leave it out for no equivalence")
    if mistakes:
        raise UserError("; ".join(mistakes))


def _computable(value: float) -> bool:
    return value == 0.0 or SMALLEST_VALUE <= abs(value) <= LARGEST_VALUE


def _out_of_range(value: float) -> str:
    if abs(value) > LARGEST_VALUE:
        return f"is beyond {LARGEST_VALUE:g}, too large to be squared: use a larger unit"
    return f"is nearer to 0 than {SMALLEST_VALUE:g}, too small to be squared: use a smaller unit"


def read_results(path: Path) -> list[ResultRow]:
    """The rows of a CSV of results.

    Raises:
        UserError: the file cannot be read, or every mistake in it with its line number.
    """
    mistakes: list[str] = []
    rows: list[ResultRow] = []
    seen: dict[tuple[str, int], int] = {}
    with table_of(path) as reader:
        check_header(path, reader.fieldnames)
        for record in reader:
            if not is_confirmation(record, line=reader.line_num, mistakes=mistakes):
                continue
            row = result_row(record, line=reader.line_num, mistakes=mistakes)
            if row is None:
                continue
            first = seen.setdefault((row.variant, row.seed), reader.line_num)
            if first != reader.line_num:
                mistakes.append(
                    f"line {reader.line_num}: variant {row.variant!r}, seed {row.seed} is "
                    f"already in line {first}: keep one row a run"
                )
            rows.append(row)
    refuse(path, mistakes)
    if not rows:
        raise UserError(f"{path} has no results to compare: add one row a run")
    return rows


@contextmanager
def table_of(path: Path) -> "Iterator[csv.DictReader[str]]":
    """The records of a CSV.

    Raises:
        UserError: the file cannot be read, also while it is.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield csv.DictReader(file, restkey="", restval="", skipinitialspace=True)
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}: give the path of a CSV file of results"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: give a CSV file of results") from None
    except csv.Error as error:
        raise UserError(f"{path} is not a valid CSV file: {error}") from None


def refuse(path: Path, mistakes: Sequence[str]) -> None:
    """
    Raises:
        UserError: there are mistakes; it lists the first ones.
    """
    if mistakes:
        raise UserError("\n  ".join(_shown(path, mistakes)))


def _shown(path: Path, mistakes: Sequence[str]) -> Iterator[str]:
    yield f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''} in {path}:"
    yield from _first(mistakes)


def _first(mistakes: Sequence[str]) -> Iterator[str]:
    yield from mistakes[:MAXIMUM_SHOWN_MISTAKES]
    if len(mistakes) > MAXIMUM_SHOWN_MISTAKES:
        yield f"and {len(mistakes) - MAXIMUM_SHOWN_MISTAKES} more"


def _listing(seeds: Sequence[int]) -> str:
    more = len(seeds) - MAXIMUM_SHOWN_SEEDS
    shown = ", ".join(map(str, seeds[:MAXIMUM_SHOWN_SEEDS]))
    return f"{shown} and {more} more" if more > 0 else shown


def check_header(path: Path, columns: Sequence[str] | None) -> None:
    """
    Raises:
        UserError: columns that are missing, misspelt or there twice.
    """
    if not columns:
        raise UserError(f"{path} is empty: the first line names the columns variant,seed,value")
    if (separator := _separator(columns)) is not None:
        raise UserError(
            f"{path}: the columns are separated by {SEPARATORS[separator]} ({separator!r}): "
            "write commas, and points in the numbers"
        )
    mistakes = []
    columns = [_printable(name) for name in columns]
    if repeated := sorted({name for name in columns if columns.count(name) > 1}):
        mistakes.append(f"column(s) {', '.join(repeated)} appear more than once")
    known = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS, *FURTHER_COLUMNS)
    unknown = [name for name in columns if name not in known]
    for name in REQUIRED_COLUMNS:
        if name not in columns:
            lowered = {column.strip().lower(): column for column in unknown}
            near = difflib.get_close_matches(name, lowered, n=1)
            hint = f"rename {lowered[near[0]]!r}" if near else f"found {', '.join(columns)}"
            mistakes.append(f"there is no column {name!r}: {hint}")
    # A misspelt optional column would be ignored in silence, and with it every divergence.
    for name in unknown:
        near = difflib.get_close_matches(name.strip().lower(), OPTIONAL_COLUMNS, n=1)
        if near and near[0] not in columns:
            mistakes.append(f"column {name!r} is not known: did you mean {near[0]!r}?")
    refuse(path, mistakes)


def _separator(columns: Sequence[str]) -> str | None:
    """The separator that gives the names of a table where commas give none."""
    if set(columns) & set(REQUIRED_COLUMNS):
        return None
    for separator in SEPARATORS:
        names = {name.strip(' "').lower() for name in ",".join(columns).split(separator)}
        if len(names & set(REQUIRED_COLUMNS)) >= 2:
            return separator
    return None


def _printable(text: str) -> str:
    """As it is, or quoted with escapes where it would move the cursor of a terminal."""
    return repr(text) if _has_control_characters(text) else text


def _has_control_characters(text: str) -> bool:
    return any(unicodedata.category(character) in ("Cc", "Cf") for character in text)


def _quoted(text: str) -> str:
    """For a message: escaped, and cut where somebody's whole file is one cell."""
    cut = len(text) > MAXIMUM_SHOWN_CHARACTERS
    return repr(f"{text[:MAXIMUM_SHOWN_CHARACTERS]}..." if cut else text)


def result_row(record: dict[str, str], *, line: int, mistakes: list[str]) -> ResultRow | None:
    """One row, or None after its mistakes were noted."""
    found = len(mistakes)
    cells = {key: cell.strip() for key, cell in record.items() if key and isinstance(cell, str)}
    if record.get(""):
        mistakes.append(
            f"line {line}: more cells than columns: check the commas (numbers have a point)"
        )
    variant = cells["variant"]
    other = next((mark for mark in SEPARATORS if mark in variant), None)
    if other is not None and not cells["seed"] and not cells["value"]:
        mistakes.append(f"line {line}: separated by {SEPARATORS[other]} ({other!r}): write commas")
        return None
    if not variant:
        mistakes.append(f"line {line}: the variant is empty: name it")
    for name in ("variant", *FURTHER_COLUMNS):
        if _has_control_characters(cells.get(name, "")):
            mistakes.append(
                f"line {line}: {name} {_quoted(cells[name])} holds characters that cannot be seen: "
                "remove them"
            )
    seed = _whole_number(cells["seed"], name="seed", line=line, mistakes=mistakes)
    outcome = cells.get("outcome") or "completed"
    if outcome not in OUTCOMES:
        near = difflib.get_close_matches(outcome.lower(), OUTCOMES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(OUTCOMES)}"
        mistakes.append(f"line {line}: outcome {_quoted(outcome)} is not known: {hint}")
    value = _value(cells["value"], outcome=outcome, line=line, mistakes=mistakes)
    step: int | None = None
    if cells.get("diverged_at_step"):
        step = _whole_number(
            cells["diverged_at_step"], name="diverged_at_step", line=line, mistakes=mistakes
        )
        if step is not None and step < 0:
            mistakes.append(f"line {line}: diverged_at_step ({step}) must be 0 or more")
    if len(mistakes) > found or seed is None:
        return None
    return ResultRow(
        variant=variant,
        seed=seed,
        value=value,
        outcome=outcome,
        initial_sha256=cells.get("initial_sha256") or None,
        batches_sha256=cells.get("batches_sha256") or None,
        diverged_at_step=step,
        unit=cells.get(UNIT_COLUMN) or None,
        computed=computed_of(cells),
    )


def is_confirmation(record: dict[str, str], *, line: int, mistakes: list[str]) -> bool:
    """Whether the row measures; an unknown phase is noted among the mistakes."""
    phase = (record.get("phase") or "confirmation").strip()
    if phase not in PHASES:
        mistakes.append(f"line {line}: phase {phase!r} is not known: use {', '.join(PHASES)}")
    return phase == "confirmation"


def _whole_number(text: str, *, name: str, line: int, mistakes: list[str]) -> int | None:
    try:
        number = int(text)
    except ValueError:
        got = f"{_quoted(text)} is not a whole number" if text else "is empty"
        mistakes.append(f"line {line}: {name} {got}: write it like 0 or 17")
        return None
    if abs(number) > LARGEST_WHOLE_NUMBER:
        mistakes.append(
            f"line {line}: {name} {_quoted(text)} is beyond {LARGEST_WHOLE_NUMBER:g}: "
            "use smaller numbers"
        )
        return None
    return number


def _value(text: str, *, outcome: str, line: int, mistakes: list[str]) -> float | None:
    """The final loss of a completed run; whatever another run left behind is no result."""
    if outcome != "completed":
        return None
    how = "or give the run's outcome in an `outcome` column, for example diverged"
    if not text:
        mistakes.append(f"line {line}: the value is empty: fill it in {how}")
        return None
    try:
        value = float(text)
    except ValueError:
        mistakes.append(f"line {line}: value {_quoted(text)} is not a number: correct it {how}")
        return None
    if not math.isfinite(value):
        mistakes.append(f"line {line}: value {_quoted(text)} is not finite: correct it {how}")
        return None
    if not _computable(value):
        mistakes.append(f"line {line}: value {_quoted(text)} {_out_of_range(value)}")
        return None
    return value


def check_holes(rows: Sequence[ResultRow], settings: AnalysisSettings) -> None:
    """Refuses a table in which a variant lacks some seeds of the baseline, or the other way round.

    A missing row may be a run that diverged and was left out, which would flatter its variant.
    Wholly different seeds on the two sides are no holes, nor is anything once the user has said
    that the runs are unpaired. With looks, a variant may end early: the first seeds of the
    baseline are then no hole.

    Raises:
        UserError: with every variant that has holes.
    """
    if settings.pairing == "unpaired":
        return
    seeds: dict[str, set[int]] = {}
    for row in rows:
        seeds.setdefault(row.variant, set()).add(row.seed)
    base = seeds.get(settings.baseline, set())
    mistakes = []
    for name, own in seeds.items():
        if own.isdisjoint(base):
            continue
        shorter = min(len(own), len(base))
        if settings.looks and sorted(own)[:shorter] == sorted(base)[:shorter]:
            continue
        for holder, lacking, other in (
            (name, base - own, settings.baseline),
            (settings.baseline, own - base, name),
        ):
            if lacking:
                listing = _listing(sorted(lacking))
                mistakes.append(f"{holder!r} has no row for seed(s) {listing}, which {other!r} has")
    if mistakes:
        raise UserError(
            "\n  ".join(
                [
                    "the table has holes:",
                    *_first(mistakes),
                    "add the rows (a run that did not complete is a row with its outcome), "
                    "or compare unpaired if the seeds mean nothing",
                ]
            )
        )
