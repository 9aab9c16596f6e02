"""The table of results for a paper: LaTeX with booktabs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.analysis.results import Comparison
from harness.analysis.study_results import StudyResults
from harness.analysis.wording import interval_decimals
from harness.report import numbers
from harness.report.tables.results import loss_cell, loss_places, outcomes_in_words, verdict_words

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "–": "--",
    "<": "$<$",
    ">": "$>$",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def escaped(text: str) -> str:
    """Text as LaTeX prints it: no character of a name is a command."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def results_tex(study: StudyResults) -> str:
    r"""A `table` with one row a variant, best first. It needs `\usepackage{booktabs}`."""
    places = loss_places(study)
    rows = [
        [variant, loss_cell(study, variant, places=places), *_compared(study, variant)]
        for variant in study.ranked()
    ]
    heading = ["variant", "loss", f"loss − {study.baseline}", "interval", "p", "verdict"]
    return labelled("lrrrrl", heading, rows, caption=_caption(study), label=study.name)


def labelled(
    columns: str,
    heading: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    caption: str,
    label: str,
) -> str:
    """A `table` of booktabs from plain text.

    Args:
        columns: as `tabular` wants them, such as `lrr`.
        label: any name; `tab:` stands before it.
    """
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{escaped(caption)}}}",
            f"  \\label{{tab:{_label(label)}}}",
            f"  \\begin{{tabular}}{{{columns}}}",
            r"    \toprule",
            f"    {_row(heading)}",
            r"    \midrule",
            *(f"    {_row(row)}" for row in rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _row(cells: Iterable[str]) -> str:
    return " & ".join(map(escaped, cells)) + r" \\"


def _compared(study: StudyResults, variant: str) -> tuple[str, ...]:
    """Difference, interval, p and verdict; how many seeds were lost stands with the verdict."""
    trials, comparison = study.of(variant), study.comparison(variant)
    word = verdict_words(study, variant)
    if not all(trial.completed for trial in trials):
        word += f" ({outcomes_in_words(trials)})"
    if comparison is None:
        return numbers.MISSING, numbers.MISSING, numbers.MISSING, word
    return (*_numbers(comparison), word)


def _numbers(comparison: Comparison) -> tuple[str, str, str]:
    places = interval_decimals(comparison.interval)
    return (
        numbers.difference(comparison.mean_difference, places=places),
        numbers.interval(comparison.interval),
        numbers.probability(comparison.decisive_p),
    )


def _caption(study: StudyResults) -> str:
    several = len(study.comparisons)
    together = f", all {several} together" if several > 1 else ""
    text = f"Final validation loss in nats, mean over {len(study.seeds)} seeds."
    if several:
        text += (
            f" Intervals of the difference hold at {study.percent}{together}; verdicts are read "
            "from them. Each p belongs to what its verdict claims."
        )
    if any(comparison.fragile for comparison in study.comparisons):
        text += " With so few seeds one odd run can decide."
    return text


def _label(name: str) -> str:
    """A label may not hold special characters, escaped or not."""
    return "".join(character if character.isalnum() else "-" for character in name)
