"""`optbench compare`: the statistics for anybody's table of results.

The file is a CSV with a header and one row a run. Required columns: `variant`, `seed`, `value`.
Optional: `outcome` (completed, diverged, stopped, failed, out_of_memory), `diverged_at_step`,
and `initial_sha256` with `batches_sha256`, which prove that two runs of a seed are a pair.
"""

import csv
import difflib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.analysis import Analysis, AnalysisSettings, Comparison, VariantSummary
from harness.errors import UserError
from harness.result_table import OUTCOMES, ResultRow
from harness.sentences import bracket, decimals_for, interval_decimals, p_value

REQUIRED_COLUMNS = ("variant", "seed", "value")
OPTIONAL_COLUMNS = ("outcome", "initial_sha256", "batches_sha256", "diverged_at_step")
MAXIMUM_SHOWN_MISTAKES = 20

VERDICT_STYLES = {
    "better": "bold green",
    "worse": "bold red",
    "equivalent": "bold cyan",
    "inconclusive": "yellow",
}


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
        raise UserError(f"{path} has a header and no results: add one row a run")
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
    known = REQUIRED_COLUMNS + OPTIONAL_COLUMNS
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
    )


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
    that the runs are unpaired.

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


def render(analysis: Analysis) -> RenderableType:
    """The analysis for a terminal of 80 columns: verdicts first, then what they rest on."""
    parts: list[RenderableType] = [
        _verdicts(analysis.comparisons),
        _variants_table(analysis.variants, analysis.settings.alpha),
        _comparisons_table(analysis.comparisons),
        *_notes(analysis),
    ]
    return Group(*parts)


def _verdicts(comparisons: Sequence[Comparison]) -> Text:
    text = Text()
    for comparison in comparisons:
        text.append(f"{comparison.verdict:<13}", style=VERDICT_STYLES[comparison.verdict])
        text.append(comparison.sentence + "\n")
    return text


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1), pad_edge=False)


def _variants_table(summaries: Sequence[VariantSummary], alpha: float) -> Table:
    table = _table("Variants: final loss over seeds")
    table.add_column("variant", overflow="fold")
    for heading in ("seeds", "mean", "sd", f"{100 * (1 - alpha):.4g} % interval", "median"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("outcomes", overflow="fold")
    for summary in summaries:
        places = decimals_for(summary.sd)
        table.add_row(
            summary.variant,
            str(summary.n),
            _number(summary.mean, places),
            _number(summary.sd, places),
            bracket(summary.interval, signed=False) or "-",
            _number(summary.median, places),
            ", ".join(f"{n} {word}" for word, n in summary.outcomes.items() if n),
        )
    return table


def _comparisons_table(comparisons: Sequence[Comparison]) -> Table:
    table = _table("Comparisons with the baseline")
    table.add_column("variant", overflow="fold")
    for heading in ("difference", "p", "Holm", "exact p", "d_z", "g_av", "A12"):
        table.add_column(heading, justify="right", no_wrap=True)
    for comparison in comparisons:
        places = interval_decimals(comparison.interval)
        table.add_row(
            comparison.variant,
            _number(comparison.mean_difference, places, sign="+"),
            _short_p(comparison.p),
            _short_p(comparison.p_holm),
            _short_p(comparison.exact_p),
            _number(comparison.effects.d_z, 2, sign="+"),
            _number(comparison.effects.hedges_g_av, 2, sign="+"),
            _number(comparison.effects.a12, 2),
        )
    return table


def _notes(analysis: Analysis) -> Iterator[Text]:
    for note in analysis.notes:
        yield Text(f"- {note}")
    said: dict[str, list[str]] = {}
    for comparison in analysis.comparisons:
        for line in _about(comparison):
            said.setdefault(line, []).append(comparison.variant)
    for line, names in said.items():
        yield Text(f"- {', '.join(names)}: {line}")


def _about(comparison: Comparison) -> Iterator[str]:
    yield f"{comparison.test}; {comparison.pairing_reason}"
    least = f"{comparison.minimum_exact_p:.2g}"
    yield f"the smallest exact p that {comparison.n} seeds can give is {least}"
    yield from comparison.notes
    if comparison.mean_difference is None:
        yield f"rates of divergence differ with {p_value(comparison.divergence_p)}"


def _number(value: float | None, places: int, *, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.{places}f}"


def _short_p(p: float) -> str:
    return p_value(p).removeprefix("p = ").removeprefix("p ").replace(" ", "")
