"""An analysis for a terminal of 80 columns: verdicts first, then what they rest on."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.analysis.results import Analysis, Comparison, TargetResult, VariantSummary
from harness.analysis.stats.intervals import Interval
from harness.analysis.wording import p_value, written
from harness.report.terminal.sheet import Sheet, folded

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
        grid.add_row(Text(comparison.verdict, style=style), folded(comparison.sentence))
    for target in targets:
        style = VERDICT_STYLES["better" if target.below else "inconclusive"]
        word = "below" if target.below else "not shown"
        grid.add_row(Text(word, style=style), folded(target.sentence))
    return grid


def _variants_sheet(summaries: Sequence[VariantSummary], alpha: float) -> Sheet:
    level = f"{100 * (1 - alpha):.4g} % interval"
    return Sheet(
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


def _comparisons_sheet(comparisons: Sequence[Comparison]) -> Sheet:
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
    return Sheet(
        title="Comparisons with the baseline",
        headings=("variant", "difference", "p", "adjusted p", "exact p", *optional),
        rows=rows,
    )


def _shows_dunnett(comparisons: Sequence[Comparison]) -> bool:
    """Of one comparison it says what the t test says."""
    return len(comparisons) > 1 and any(c.block_dunnett_p is not None for c in comparisons)


def _effects_sheet(comparisons: Sequence[Comparison]) -> Sheet:
    return Sheet(
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
        grid.add_row(Text("-"), folded(about + line))
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
