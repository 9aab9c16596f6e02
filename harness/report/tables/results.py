"""What came out: losses, differences, outcomes."""

from __future__ import annotations

from harness.analysis.machines import why_no_times
from harness.analysis.measures import MEASURES, change, estimate
from harness.analysis.results import Comparison
from harness.analysis.shrinkage import not_tuned
from harness.analysis.study_results import StudyResults, mean_of
from harness.analysis.wording import decimals_for, interval_decimals
from harness.report import numbers
from harness.report.elements import Table, left, right, table, whole, wide
from harness.report.verdict_words import marked_p
from harness.runs.snapshot import TrialSnapshot
from harness.training.records import OUTCOMES

OUTCOME_WORDS = {"out_of_memory": "out of memory"}
LOSS, PERPLEXITY, ACCURACY, TRAINING_TIME = MEASURES


def results(study: StudyResults) -> Table:
    """Rank, verdict, loss, the difference from the baseline, and what else a reader compares."""
    places = loss_places(study)
    rows = [
        (
            str(rank) if study.is_ranked else numbers.MISSING,
            variant,
            verdict_words(study, variant),
            loss_cell(study, variant, places=places),
            *_difference_cells(study.comparison(variant)),
            _change(study, variant),
            *_p_cells(study.comparison(variant)),
            _perplexity(study, variant),
            _accuracy(study, variant),
            _training_time(study, variant),
            outcomes_in_words(study.of(variant)),
        )
        for rank, variant in enumerate(study.ranked(), start=1)
    ]
    columns = [
        *right("rank"),
        *left("variant"),
        whole("verdict"),
        *right("loss", f"loss − {study.baseline}", "interval", "change"),
        *right("adjusted p", "exact p"),
        *right("perplexity", "accuracy", "training time"),
        *left("completed"),
    ]
    strong = frozenset(
        index for index, variant in enumerate(study.ranked()) if variant == study.baseline
    )
    title = "Variants, best first" if study.is_ranked else "Variants, in the order of the study"
    return table(title, columns, rows, strong_rows=strong, note=_note(study))


def _note(study: StudyResults) -> str:
    note = (
        "Loss: mean of the seeds' final validation losses in nats. A variant that lost a seed has "
        "no mean: its median stands there, lost seeds counted as the worst. The interval is that "
        f"of the difference from {study.baseline}, the one that its verdict is read from; the "
        "intervals of all variants hold together. The change is the difference in percent of "
        f"{study.baseline}. The adjusted p belongs to what the verdict claims: a difference, one "
        "within the margin (equivalent) or one beyond it (by the margin). The exact p assumes no "
        "distribution and is that of this comparison alone. Perplexity is exp(loss). Training time "
        "leaves out start-up and evaluation."
    )
    if why := why_no_times(study):
        note += f" {why}."
    if not study.is_ranked:
        note += " No rank: there is no seed at which every variant has an outcome."
    elif any(len(study.in_hand(v)) != len(study.ranked_seeds) for v in study.variants):
        note += f" Ranks are those over the {len(study.ranked_seeds)} seeds that all variants have."
    twins = {frozenset({v, *study.twins(v)}) for v in study.variants if study.twins(v)}
    for group in sorted(sorted(group) for group in twins):
        note += f" {' and '.join(group)} are the same configuration and share their training runs."
    return note


def verdict_words(study: StudyResults, variant: str) -> str:
    """`better`, `baseline`, and what keeps it from being worth as much."""
    comparison = study.comparison(variant)
    if variant != study.baseline and comparison is None:
        return numbers.MISSING
    words: list[str] = ["baseline" if comparison is None else comparison.verdict]
    words += ["exploratory"] if comparison is not None and comparison.exploratory else []
    words += ["not tuned"] if not_tuned(study, variant) else []
    return ", ".join(words)


def loss_places(study: StudyResults) -> int:
    """Decimals of every loss of a table: those that the least noisy one of them supports."""
    summaries = study.analysis.variants if study.analysis else ()
    intervals = [summary.interval for summary in summaries if summary.interval is not None]
    widths = [found.high - found.low for found in intervals]
    return decimals_for(min((width for width in widths if width > 0.0), default=0.0) / 2.0)


def loss_cell(study: StudyResults, variant: str, *, places: int) -> str:
    """The mean as analysed; before there is an analysis, the mean of what is in hand."""
    summary = study.summary(variant)
    if summary is not None and summary.mean is not None:
        return numbers.loss(summary.mean, places=places)
    if summary is not None:
        median = summary.median
        return numbers.MISSING if median is None else f"median {median:.{places}f}"
    trials = study.in_hand(variant)
    if not trials or not all(trial.completed for trial in trials):
        return numbers.MISSING
    return numbers.loss(mean_of(trials, lambda trial: trial.loss), places=places)


def _difference_cells(comparison: Comparison | None) -> tuple[str, str]:
    if comparison is None:
        return numbers.MISSING, numbers.MISSING
    places = interval_decimals(comparison.interval)
    return (
        numbers.difference(comparison.mean_difference, places=places),
        numbers.interval(comparison.interval),
    )


def _p_cells(comparison: Comparison | None) -> tuple[str, str]:
    if comparison is None:
        return numbers.MISSING, numbers.MISSING
    return marked_p(comparison), numbers.exact_probability(comparison.exact_p)


def _change(study: StudyResults, variant: str) -> str:
    found = change(study, variant, LOSS)
    if found is None:
        return numbers.MISSING
    noise = None if found.high is None else 100 * (found.high - found.mean)
    return numbers.change(found.mean, digits=numbers.decimals(noise, fallback=2))


def _perplexity(study: StudyResults, variant: str) -> str:
    """Of the mean loss, so that it says the same as the mean loss does."""
    found = estimate(study, variant, PERPLEXITY)
    if found is None:
        return numbers.MISSING
    noise = None if found.high is None else found.high - found.mean
    return numbers.decimal(found.mean, digits=numbers.decimals(noise, fallback=2))


def _accuracy(study: StudyResults, variant: str) -> str:
    found = estimate(study, variant, ACCURACY)
    if found is None:
        return numbers.MISSING
    noise = None if found.high is None else 100 * (found.high - found.mean)
    return numbers.percent(found.mean, digits=numbers.decimals(noise, fallback=2))


def _training_time(study: StudyResults, variant: str) -> str:
    found = estimate(study, variant, TRAINING_TIME)
    return numbers.duration(None if found is None else found.mean)


def targets(study: StudyResults) -> Table | None:
    """Each variant's mean against the target that was fixed in advance."""
    places = loss_places(study)
    rows = [
        (
            item.variant,
            "yes" if item.below else "not shown",
            numbers.loss(item.mean, places=places),
            numbers.loss(item.upper_bound, places=places),
            str(item.n),
            numbers.probability(item.adjusted_p),
        )
        for item in study.targets
    ]
    if not rows:
        return None
    return table(
        f"Below the target of {study.targets[0].target:g}?",
        [*left("variant", "below"), *right("loss", "upper bound", "n", "adjusted p")],
        rows,
        note="One-sided t test of the mean, adjusted for the number of variants; the upper bounds "
        "of all variants hold together, and below means that the bound is.",
    )


def outcomes(study: StudyResults) -> Table:
    """How many trials of each variant ended in which way."""
    rows = []
    for variant in study.ranked():
        trials = study.of(variant)
        finished = [trial for trial in trials if trial.outcome is not None]
        counts = [sum(trial.state == word for trial in trials) for word in OUTCOMES]
        share = counts[0] / len(finished) if finished else None
        rows.append(
            (
                variant,
                *(str(number) for number in counts),
                str(len(trials) - len(finished)),
                numbers.percent(share, digits=0),
            )
        )
    words = [OUTCOME_WORDS.get(word, word) for word in OUTCOMES]
    return table("Outcomes", [*left("variant"), *right(*words, "not finished", "success")], rows)


def failures(study: StudyResults) -> Table | None:
    """Every trial that ended in another way than completed, with its reason."""
    rows = [
        (
            trial.variant,
            str(trial.seed),
            OUTCOME_WORDS.get(trial.state, trial.state),
            str(trial.outcome.diverged_at_step or trial.outcome.step),
            trial.outcome.reason or numbers.MISSING,
        )
        for trial in study.confirmation
        if trial.outcome is not None and not trial.completed
    ]
    columns = [*left("variant"), *right("seed"), *left("outcome"), *right("step"), wide("reason")]
    return table("Trials without a final loss", columns, rows) if rows else None


def outcomes_in_words(trials: tuple[TrialSnapshot, ...]) -> str:
    """`8 of 8`, followed by every other outcome with its count."""
    counts = {word: sum(trial.state == word for trial in trials) for word in OUTCOMES}
    text = f"{counts.pop('completed')} of {len(trials)}"
    others = [f"{n} {OUTCOME_WORDS.get(word, word)}" for word, n in counts.items() if n]
    return ", ".join([text, *others])
