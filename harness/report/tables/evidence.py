"""Why the result may be believed: tests in full, pairing, hashes."""

from __future__ import annotations

from harness.analysis.results import Comparison
from harness.analysis.study_results import StudyResults
from harness.report import numbers
from harness.report.elements import Table, left, right, table, wide


def statistics_table(study: StudyResults) -> Table | None:
    """How each difference was tested, and every number behind its verdict."""
    if not study.comparisons:
        return None
    columns = [
        *left("variant", "test"),
        *right("n", "interval", "p alone", "adjusted p", "equivalence p", "margin p"),
        *right("exact p", "smallest exact p", "Dunnett p", "divergence p"),
        *right("d_z", "Hedges g", "A12", "seeds to settle"),
    ]
    rows = [_tested(comparison) for comparison in study.comparisons]
    return table("Tests", columns, rows, note=TESTS_NOTE)


def _tested(comparison: Comparison) -> tuple[str, ...]:
    effects = comparison.effects
    return (
        comparison.variant,
        comparison.test,
        str(comparison.n),
        numbers.interval(comparison.interval),
        numbers.probability(comparison.p),
        numbers.probability(comparison.adjusted_p),
        numbers.probability(comparison.equivalence_p),
        numbers.probability(comparison.margin_p),
        numbers.exact_probability(comparison.exact_p),
        numbers.exact_probability(comparison.minimum_exact_p),
        numbers.probability(comparison.block_dunnett_p),
        numbers.probability(comparison.divergence_p),
        numbers.decimal(effects.d_z),
        numbers.decimal(effects.hedges_g_av),
        numbers.decimal(effects.a12),
        numbers.count(comparison.seeds_to_settle),
    )


TESTS_NOTE = (
    "Verdicts are read from the interval. The intervals of all comparisons hold together, over all "
    "looks if there are any. The adjusted p is below alpha exactly where the interval leaves out "
    "0, the equivalence p where it lies within the margin, the margin p where it lies beyond. The "
    "p alone is what the test would say without the other comparisons. Exact p: sign flips or "
    "relabelling, which assume no distribution; beside it the smallest value that so many seeds "
    "can give. Dunnett p: the secondary test over paired blocks. Divergence p compares the rates "
    "of divergence. d_z: mean over standard deviation of the differences. Hedges g: difference in "
    "standard deviations of a single run. A12: how often a run of the variant beats one of the "
    "baseline. Seeds to settle: an estimate for verdicts that are still inconclusive."
)


def looks(study: StudyResults) -> Table | None:
    """Where each comparison with fixed looks stands."""
    rows = []
    for comparison in study.comparisons:
        look = comparison.look
        if look is not None:
            upcoming = look.next_look
            rows.append(
                (
                    comparison.variant,
                    f"{look.number} of {look.of}",
                    str(look.seeds),
                    numbers.probability(comparison.p),
                    numbers.probability(look.nominal_p),
                    "decided" if look.decided else "not decided",
                    f"at {upcoming} seeds" if upcoming else numbers.MISSING,
                )
            )
    columns = [*left("variant"), *right("look", "seeds", "p", "bound"), *left("state", "next look")]
    return table("Looks", columns, rows) if rows else None


def certificate(study: StudyResults) -> Table:
    """The hashes of each seed's start and data, and whether all variants agree on them."""
    rows = []
    for seed in study.seeds:
        ends = [t.outcome for t in study.confirmation if t.seed == seed and t.outcome is not None]
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
        "planned sequence of batches. Seeds are compared in pairs only where these agree.",
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


def pairing(study: StudyResults) -> Table | None:
    rows = [
        (
            comparison.variant,
            "paired" if comparison.paired else "unpaired",
            "yes" if comparison.pairing_certified else "no",
            comparison.pairing_reason,
        )
        for comparison in study.comparisons
    ]
    columns = [*left("variant", "comparison", "certified"), wide("reason")]
    return table("Certificate of pairing", columns, rows) if rows else None
