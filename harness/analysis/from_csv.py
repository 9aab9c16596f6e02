"""`optbench compare`: the statistics for anybody's table of results.

The file is a CSV with a header and one row a run. Required columns: `variant`, `seed`, `value`.
Optional: `outcome` (completed, diverged, stopped, failed, out_of_memory), `diverged_at_step`,
`initial_sha256` with `batches_sha256`, which prove that two runs of a seed are a pair, `unit`: what
the values are counted in, such as nats, for the sentences; and `phase`: rows of the tuning phase,
on whose seeds the hyperparameters were chosen, are not read.
"""

import csv
import difflib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from harness.analysis.compare import analyse
from harness.analysis.result_rows import ResultRow
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
"""Optional too; misspelt it costs a word in a sentence, so no near miss of it is refused."""
MAXIMUM_SHOWN_MISTAKES = 20

PHASES = ("tuning", "confirmation")


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
    rows = read_results(path)
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
    check_holes(rows, settings)
    return analyse(rows, settings)


def read_results(path: Path) -> list[ResultRow]:
    """The rows of a CSV of results.

    Raises:
        UserError: the file cannot be read, or every mistake in it with its line number.
    """
    mistakes: list[str] = []
    rows: list[ResultRow] = []
    seen: dict[tuple[str, int], int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="", restval="", skipinitialspace=True)
            _check_header(path, reader.fieldnames)
            for record in reader:
                if _is_tuning(record, line=reader.line_num, mistakes=mistakes):
                    continue
                row = _row(record, line=reader.line_num, mistakes=mistakes)
                if row is None:
                    continue
                first = seen.setdefault((row.variant, row.seed), reader.line_num)
                if first != reader.line_num:
                    mistakes.append(
                        f"line {reader.line_num}: variant {row.variant!r}, seed {row.seed} is "
                        f"already in line {first}: keep one row a run"
                    )
                rows.append(row)
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}: give the path of a CSV file of results"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: give a CSV file of results") from None
    except csv.Error as error:
        raise UserError(f"{path} is not a valid CSV file: {error}") from None
    if mistakes:
        raise UserError("\n  ".join(_shown(path, mistakes)))
    if not rows:
        raise UserError(f"{path} has no results to compare: add one row a run")
    return rows


def _shown(path: Path, mistakes: Sequence[str]) -> Iterator[str]:
    yield f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''} in {path}:"
    yield from mistakes[:MAXIMUM_SHOWN_MISTAKES]
    if len(mistakes) > MAXIMUM_SHOWN_MISTAKES:
        yield f"and {len(mistakes) - MAXIMUM_SHOWN_MISTAKES} more"


def _check_header(path: Path, columns: Sequence[str] | None) -> None:
    if not columns:
        raise UserError(f"{path} is empty: the first line names the columns variant,seed,value")
    mistakes = []
    if repeated := sorted({name for name in columns if columns.count(name) > 1}):
        mistakes.append(f"column(s) {', '.join(repeated)} appear more than once")
    known = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS, UNIT_COLUMN)
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
    if mistakes:
        raise UserError("\n  ".join(_shown(path, mistakes)))


def _row(record: dict[str, str], *, line: int, mistakes: list[str]) -> ResultRow | None:
    """One row, or None after its mistakes were noted."""
    found = len(mistakes)
    cells = {key: cell.strip() for key, cell in record.items() if key and isinstance(cell, str)}
    if record.get(""):
        mistakes.append(f"line {line}: more cells than columns: check the commas")
    variant = cells["variant"]
    if not variant:
        mistakes.append(f"line {line}: the variant is empty: name it")
    seed = _whole_number(cells["seed"], name="seed", line=line, mistakes=mistakes)
    outcome = cells.get("outcome") or "completed"
    if outcome not in OUTCOMES:
        near = difflib.get_close_matches(outcome.lower(), OUTCOMES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(OUTCOMES)}"
        mistakes.append(f"line {line}: outcome {outcome!r} is not known: {hint}")
    value = _value(cells["value"], outcome=outcome, line=line, mistakes=mistakes)
    step: int | None = None
    if cells.get("diverged_at_step"):
        step = _whole_number(
            cells["diverged_at_step"], name="diverged_at_step", line=line, mistakes=mistakes
        )
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
    )


def _is_tuning(record: dict[str, str], *, line: int, mistakes: list[str]) -> bool:
    phase = (record.get("phase") or "confirmation").strip()
    if phase not in PHASES:
        mistakes.append(f"line {line}: phase {phase!r} is not known: use {' or '.join(PHASES)}")
    return phase == "tuning"


def _whole_number(text: str, *, name: str, line: int, mistakes: list[str]) -> int | None:
    try:
        return int(text)
    except ValueError:
        got = f"{text!r} is not a whole number" if text else "is empty"
        mistakes.append(f"line {line}: {name} {got}: write it like 0 or 17")
        return None


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
        mistakes.append(f"line {line}: value {text!r} is not a number: correct it {how}")
        return None
    if not math.isfinite(value):
        mistakes.append(f"line {line}: value {text!r} is not finite: correct it {how}")
        return None
    return value


def check_holes(rows: Sequence[ResultRow], settings: AnalysisSettings) -> None:
    """Refuses a table in which a variant lacks some seeds of the baseline, or the other way round.

    A missing row may be a run that diverged and was left out, which would flatter its variant.
    Wholly different seeds on the two sides are no holes, nor is anything once the user has said
    that the runs are unpaired. With looks, a variant may end early: the first seeds of the
    baseline are then no hole.

    Raises:
        UserError: with every hole.
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
                listing = ", ".join(map(str, sorted(lacking)))
                mistakes.append(f"{holder!r} has no row for seed(s) {listing}, which {other!r} has")
    if mistakes:
        raise UserError(
            "\n  ".join(
                [
                    "the table has holes:",
                    *mistakes,
                    "add the rows (a run that did not complete is a row with its outcome), "
                    "or compare unpaired if the seeds mean nothing",
                ]
            )
        )
