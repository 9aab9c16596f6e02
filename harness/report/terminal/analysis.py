"""An analysis for a terminal of 80 columns: verdicts first, then what they rest on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.analysis.results import Analysis, Comparison, TargetResult, VariantSummary
from harness.analysis.stats.intervals import Interval
from harness.analysis.wording import p_value, written

NAME_WIDTH = 12
"""Names fold down to this; if the numbers leave less, there is no table."""

VERDICT_STYLES = {
    "better by the margin": "bold green",
    "better": "bold green",
    "worse": "bold red",
    "worse by the margin": "bold red",
    "equivalent": "bold cyan",
    "inconclusive": "yellow",
}


def render_analysis(analysis: Analysis) -> RenderableType:
    """Verdicts in words, tables of variants and comparisons, and every note."""
    parts: list[RenderableType] = [_verdicts(analysis.comparisons, analysis.targets)]
    parts.append(_variants_sheet(analysis.variants, analysis.settings.alpha))
    if analysis.comparisons:
        parts.append(_comparisons_sheet(analysis.comparisons))
        parts.append(_effects_sheet(analysis.comparisons))
    parts.append(_notes(analysis))
    return Group(*parts)


def _verdicts(comparisons: Sequence[Comparison], targets: Sequence[TargetResult]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for comparison in comparisons:
        style = VERDICT_STYLES[comparison.verdict]
        grid.add_row(Text(comparison.verdict, style=style), _folded(comparison.sentence))
    for target in targets:
        style = VERDICT_STYLES["better" if target.below else "inconclusive"]
        word = "below" if target.below else "not shown"
        grid.add_row(Text(word, style=style), _folded(target.sentence))
    return grid


@dataclass(frozen=True, kw_only=True)
class _Sheet:
    """Rows of text that begin with a name: a table where it fits, else a paragraph a row.

    Names and words fold. A number is never cut, however many digits it has, and nothing in a cell
    is markup.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    last_is_words: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self._widths(options.max_width)
        yield self._paragraphs() if widths is None else self._table(widths)

    def _widths(self, available: int) -> list[int] | None:
        """Of all columns; None where the numbers leave too little for the names."""
        columns = list(zip(self.headings, *self.rows, strict=True))
        widths = [max(map(cell_len, column)) for column in columns]
        # One space on either side of a column, and a blank line of the box between two.
        left = available - sum(widths[1:]) - 3 * (len(widths) - 1) - 2
        if self.last_is_words and left < widths[0]:
            longest = max(cell_len(word) for cell in columns[-1] for word in cell.split())
            spared = min(widths[-1] - longest, widths[0] - left)
            widths[-1], left = widths[-1] - spared, left + spared
        if left < min(widths[0], NAME_WIDTH):
            return None
        return [min(widths[0], left), *widths[1:]]

    def _table(self, widths: Sequence[int]) -> Table:
        table = Table(
            title=self.title, title_justify="left", box=box.SIMPLE, padding=(0, 1), pad_edge=False
        )
        for index, (heading, width) in enumerate(zip(self.headings, widths, strict=True)):
            words = index == 0 or (self.last_is_words and index == len(widths) - 1)
            table.add_column(
                heading, justify="left" if words else "right", width=width, overflow="fold"
            )
        for row in self.rows:
            table.add_row(*map(_folded, row))
        return table

    def _paragraphs(self) -> Group:
        parts: list[RenderableType] = [Text(f"{self.title}\n", style="italic")]
        for name, *cells in self.rows:
            named = zip(self.headings[1:], cells, strict=True)
            body = "; ".join(f"{heading} {cell}" for heading, cell in named)
            parts += [_folded(name), Padding(_folded(body), (0, 0, 0, 2))]
        return Group(*parts, Text())


def _variants_sheet(summaries: Sequence[VariantSummary], alpha: float) -> _Sheet:
    level = f"{100 * (1 - alpha):.4g} % interval"
    return _Sheet(
        title="Variants: final value over seeds",
        headings=("variant", "seeds", "mean", "sd", level, "median", "outcomes"),
        rows=[
            (
                summary.variant,
                str(summary.n),
                written(summary.mean, noise=summary.sd),
                written(summary.sd, noise=summary.sd),
                _bracket(summary.interval),
                written(summary.median, noise=summary.sd),
                ", ".join(f"{n} {word}" for word, n in summary.outcomes.items() if n),
            )
            for summary in summaries
        ],
        last_is_words=True,
    )


def _comparisons_sheet(comparisons: Sequence[Comparison]) -> _Sheet:
    margin = any(comparison.equivalence for comparison in comparisons)
    dunnett = _shows_dunnett(comparisons)
    optional = [*["TOST p"] * margin, *["Dunnett p"] * dunnett]
    rows = []
    for comparison in comparisons:
        noise = _half_width(comparison.interval or comparison.interval_alone)
        cells = [
            comparison.variant,
            written(comparison.mean_difference, noise=noise, sign="+"),
            _short_p(comparison.p),
            _short_p(comparison.adjusted_p),
            _short_p(comparison.exact_p),
        ]
        if margin:
            cells.append(_short_p(comparison.equivalence_p))
        if dunnett:
            cells.append(_short_p(comparison.block_dunnett_p))
        rows.append(cells)
    return _Sheet(
        title="Comparisons with the baseline",
        headings=("variant", "difference", "p", "adjusted p", "exact p", *optional),
        rows=rows,
    )


def _shows_dunnett(comparisons: Sequence[Comparison]) -> bool:
    """Of one comparison it says what the t test says."""
    return len(comparisons) > 1 and any(c.block_dunnett_p is not None for c in comparisons)


def _effects_sheet(comparisons: Sequence[Comparison]) -> _Sheet:
    return _Sheet(
        title="Effect sizes",
        headings=("variant", "d_z", "g_av", "A12"),
        rows=[
            (
                comparison.variant,
                _effect(comparison.effects.d_z),
                _effect(comparison.effects.hedges_g_av),
                "-" if comparison.effects.a12 is None else f"{comparison.effects.a12:.2f}",
            )
            for comparison in comparisons
        ],
    )


def _folded(text: str) -> Text:
    """Text from outside: never markup, and what is too long for a line goes on in the next."""
    return Text(text, overflow="fold")


def _bracket(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    low, high = (written(end, noise=_half_width(interval)) for end in (interval.low, interval.high))
    return f"[{low}, {high}]"


def _half_width(interval: Interval | None) -> float | None:
    return None if interval is None else (interval.high - interval.low) / 2.0


def _effect(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:+.2f}" if abs(value) < 1000.0 else f"{value:+.3g}"


def _notes(analysis: Analysis) -> Table:
    """Each note once, with the variants that it is about, hanging behind its dash."""
    said: dict[str, list[str]] = {note: [] for note in analysis.notes}
    for comparison in analysis.comparisons:
        for line in _about(comparison):
            said.setdefault(line, []).append(comparison.variant)
    for target in analysis.targets:
        for line in target.notes:
            said.setdefault(line, []).append(target.variant)
    if analysis.margin is not None:
        said[f"equivalent means: the difference lies within {analysis.margin:g} either way"] = []
        if any(comparison.equivalence for comparison in analysis.comparisons):
            said["TOST p is that of equivalence, adjusted like the adjusted p"] = []
    if _shows_dunnett(analysis.comparisons):
        said["Dunnett p is secondary: it assumes that all variants share one variance"] = []
    grid = Table.grid(padding=(0, 1, 0, 0))
    for line, names in said.items():
        about = f"{', '.join(dict.fromkeys(names))}: " if names else ""
        grid.add_row(Text("-"), _folded(about + line))
    return grid


def _about(comparison: Comparison) -> Iterator[str]:
    yield f"{comparison.test}; {comparison.pairing_reason}"
    least = f"{comparison.minimum_exact_p:.3g}"
    yield f"the smallest exact p that {comparison.n} seeds can give is {least}"
    yield from comparison.notes
    if comparison.mean_difference is None:
        yield f"do the rates of divergence differ? {p_value(comparison.divergence_p)}"


def _short_p(p: float | None) -> str:
    if p is None:
        return "-"
    return p_value(p).removeprefix("p = ").removeprefix("p ").replace(" ", "")
