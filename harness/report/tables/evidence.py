"""Why the result may be believed: tests in full, pairing, hashes."""

from __future__ import annotations

from harness.report import numbers
from harness.report.blocks import Table, left, right, table
from harness.report.view import StudyView


def statistics_table(view: StudyView) -> Table | None:
    """How each difference was tested, and every number behind its verdict."""
    comparisons = (view.analysis or {}).get("comparisons", [])
    if not comparisons:
        return None
    rows = []
    for comparison in comparisons:
        wide, effects = comparison["simultaneous_interval"] or {}, comparison["effects"]
        equivalence = comparison["equivalence"]
        rows.append(
            (
                comparison["variant"],
                comparison["test"],
                str(comparison["n"]),
                numbers.interval(wide.get("low"), wide.get("high"), signed=True),
                numbers.probability(comparison["p"]),
                numbers.probability(comparison["p_holm"]),
                numbers.probability(comparison["exact_p"]),
                numbers.probability(comparison["minimum_exact_p"]),
                numbers.probability(equivalence["p"] if equivalence else None),
                numbers.probability(comparison["divergence_p"]),
                numbers.decimal(effects["d_z"]),
                numbers.decimal(effects["hedges_g_av"]),
                numbers.decimal(effects["a12"]),
            )
        )
    columns = [
        *left("variant", "test"),
        *right("n", "simultaneous interval", "p", "adjusted p", "exact p", "smallest exact p"),
        *right("equivalence p", "divergence p", "d_z", "Hedges g", "A12"),
    ]
    return table(
        "Tests",
        columns,
        rows,
        note="The simultaneous intervals hold together (Bonferroni). Exact p: sign flips or "
        "relabelling, which assume no distribution; the smallest value that so many seeds can give "
        "stands beside it. Divergence p compares the rates of divergence. d_z: mean over standard "
        "deviation of the differences. Hedges g: difference in standard deviations of a single "
        "run. A12: how often a run of the variant beats one of the baseline.",
    )


def certificate(view: StudyView) -> Table:
    """The hashes of each seed's start and data, and whether all variants agree on them."""
    rows = []
    for seed in view.seeds:
        ends = [t.outcome for t in view.confirmation if t.seed == seed and t.outcome is not None]
        initial = {end.initial_parameters_sha256 for end in ends} - {None}
        batches = {end.batches_sha256 for end in ends} - {None}
        silent = sum(end.initial_parameters_sha256 is None for end in ends)
        rows.append(
            (
                str(seed),
                _hashes(initial),
                _hashes(batches),
                str(len(ends)),
                _agreement(initial, batches, silent=silent, finished=len(ends)),
            )
        )
    columns = [*right("seed"), *left("initial parameters", "data and batches")]
    columns += [*right("trials"), *left("agreement")]
    return table(
        "Same start, same data",
        columns,
        rows,
        note="SHA-256 of all initial parameters, and of the data, the evaluation windows and the "
        "planned sequence of batches. A paired test is used only where these agree.",
    )


def _hashes(found: set[str | None]) -> str:
    return (
        ", ".join(numbers.short_hash(value) for value in sorted(map(str, found))) or numbers.MISSING
    )


def _agreement(
    initial: set[str | None], batches: set[str | None], *, silent: int, finished: int
) -> str:
    if not finished:
        return "not finished"
    if len(initial) > 1 or len(batches) > 1:
        return "different"
    if silent:
        return f"the same, {silent} of {finished} recorded none"
    return "the same"


def pairing(view: StudyView) -> Table | None:
    comparisons = (view.analysis or {}).get("comparisons", [])
    rows = [
        (
            comparison["variant"],
            "paired" if comparison["paired"] else "unpaired",
            "yes" if comparison["pairing_certified"] else "no",
            comparison["pairing_reason"],
        )
        for comparison in comparisons
    ]
    columns = left("variant", "comparison", "certified", "reason")
    return table("Certificate of pairing", columns, rows) if rows else None
