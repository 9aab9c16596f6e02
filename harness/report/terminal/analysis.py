"""An analysis for a terminal of 80 columns: verdicts first, then what they rest on."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.analysis.results import Analysis, Comparison, TargetResult, VariantSummary
from harness.analysis.wording import bracket, decimals_for, interval_decimals, p_value

VERDICT_STYLES = {
    "better": "bold green",
    "worse": "bold red",
    "equivalent": "bold cyan",
    "inconclusive": "yellow",
}


def render_analysis(analysis: Analysis) -> RenderableType:
    """Verdicts in words, tables of variants and comparisons, and every note."""
    parts: list[RenderableType] = [_verdicts(analysis.comparisons, analysis.targets)]
    parts.append(_variants_table(analysis.variants, analysis.settings.alpha))
    if analysis.comparisons:
        parts.append(_comparisons_table(analysis.comparisons))
        parts.append(_effects_table(analysis.comparisons))
    parts.append(_notes(analysis))
    return Group(*parts)


def _verdicts(comparisons: Sequence[Comparison], targets: Sequence[TargetResult]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for comparison in comparisons:
        style = VERDICT_STYLES[comparison.verdict]
        grid.add_row(Text(comparison.verdict, style=style), Text(comparison.sentence))
    for target in targets:
        style = VERDICT_STYLES["better" if target.below else "inconclusive"]
        word = "below" if target.below else "not shown"
        grid.add_row(Text(word, style=style), Text(target.sentence))
    return grid


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1), pad_edge=False)


def _variants_table(summaries: Sequence[VariantSummary], alpha: float) -> Table:
    table = _table("Variants: final value over seeds")
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
    adjusted = "looks" if any(comparison.look for comparison in comparisons) else "Holm"
    margin = any(comparison.equivalence for comparison in comparisons)
    dunnett = len(comparisons) > 1 and any(comparison.block_dunnett_p for comparison in comparisons)
    headings = ["difference", "p", f"p ({adjusted})", "exact p"]
    for heading in [*headings, *["TOST p"] * margin, *["Dunnett p"] * dunnett]:
        table.add_column(heading, justify="right", no_wrap=True)
    for comparison in comparisons:
        equivalence = comparison.equivalence
        cells = [
            comparison.variant,
            _number(comparison.mean_difference, interval_decimals(comparison.interval), sign="+"),
            _short_p(comparison.p),
            _short_p(comparison.p_holm),
            _short_p(comparison.exact_p),
        ]
        if margin:
            cells.append(_short_p(None if equivalence is None else equivalence.p))
        if dunnett:
            cells.append(_short_p(comparison.block_dunnett_p))
        table.add_row(*cells)
    return table


def _effects_table(comparisons: Sequence[Comparison]) -> Table:
    table = _table("Effect sizes")
    table.add_column("variant", overflow="fold")
    for heading in ("d_z", "g_av", "A12"):
        table.add_column(heading, justify="right", no_wrap=True)
    for comparison in comparisons:
        effects = comparison.effects
        table.add_row(
            comparison.variant,
            _number(effects.d_z, 2, sign="+"),
            _number(effects.hedges_g_av, 2, sign="+"),
            _number(effects.a12, 2),
        )
    return table


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
    grid = Table.grid(padding=(0, 1, 0, 0))
    for line, names in said.items():
        about = f"{', '.join(dict.fromkeys(names))}: " if names else ""
        grid.add_row(Text("-"), Text(about + line))
    return grid


def _about(comparison: Comparison) -> Iterator[str]:
    yield f"{comparison.test}; {comparison.pairing_reason}"
    least = f"{comparison.minimum_exact_p:.3g}"
    yield f"the smallest exact p that {comparison.n} seeds can give is {least}"
    yield from comparison.notes
    if comparison.mean_difference is None:
        yield f"do the rates of divergence differ? {p_value(comparison.divergence_p)}"
    if comparison.block_dunnett_p is not None:
        yield "Dunnett p is secondary: it assumes that all variants share one variance"


def _number(value: float | None, places: int, *, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.{places}f}"


def _short_p(p: float | None) -> str:
    if p is None:
        return "-"
    return p_value(p).removeprefix("p = ").removeprefix("p ").replace(" ", "")
