"""What came out: losses, differences, outcomes."""

from __future__ import annotations

from collections.abc import Callable

from harness.analysis.measures import MEASURES, change, perplexity
from harness.analysis.shrinkage import not_tuned
from harness.analysis.study_results import StudyResults, mean_of
from harness.report import numbers
from harness.report.elements import Table, left, right, table, wide
from harness.runs.snapshot import TrialSnapshot
from harness.training.records import OUTCOMES

OUTCOME_WORDS = {"out_of_memory": "out of memory"}


def results(study: StudyResults) -> Table:
    """Rank, verdict, loss, the difference from the baseline, and what else a reader compares."""
    rows = []
    for rank, variant in enumerate(study.ranked(), start=1):
        trials = study.of(variant)
        difference, interval, adjusted_p, verdict = _difference_cells(study, variant)
        shift = change(study, variant, MEASURES[0])
        rows.append(
            (
                str(rank),
                variant,
                verdict,
                *_loss_cells(study, variant),
                difference,
                interval,
                numbers.change(shift.mean if shift else None),
                adjusted_p,
                _perplexity(study, variant),
                numbers.percent(_mean_without_losses(study, variant, _accuracy), digits=2),
                numbers.duration(_mean_without_losses(study, variant, _train_time)),
                outcomes_in_words(trials),
            )
        )
    columns = [
        *right("rank"),
        *left("variant", "verdict"),
        *right("loss", "interval", f"loss − {study.baseline}", "interval"),
        *right("change", "adjusted p"),
        *right("perplexity", "accuracy", "training time"),
        *left("completed"),
    ]
    strong = frozenset(
        index for index, variant in enumerate(study.ranked()) if variant == study.baseline
    )
    return table("Variants, best first", columns, rows, strong_rows=strong, note=_note(study))


def _mean_without_losses(
    study: StudyResults, variant: str, value: Callable[[TrialSnapshot], float | None]
) -> float | None:
    """Mean over the analysed seeds; None if one of them did not complete."""
    seeds = summary.seeds if (summary := study.summary(variant)) else study.seeds
    trials = [t for t in study.of(variant) if t.seed in seeds and t.outcome is not None]
    return mean_of(trials, value) if all(trial.completed for trial in trials) else None


def _note(study: StudyResults) -> str:
    note = (
        "Loss: mean of the seeds' final validation losses in nats, with its t interval. A variant "
        "that lost a seed has no mean: its median stands there, lost seeds counted as the worst. "
        "The difference from the baseline has an interval of its own, narrower where seeds are "
        "paired; the change is the same in percent of the baseline. The p is adjusted for the "
        "number of comparisons (Holm). Perplexity is exp(loss). Training time leaves out start-up "
        "and evaluation."
    )
    twins = {frozenset({v, *study.twins(v)}) for v in study.variants if study.twins(v)}
    for group in sorted(sorted(group) for group in twins):
        note += f" {' and '.join(group)} are the same configuration and share their training runs."
    return note


def _loss_cells(study: StudyResults, variant: str) -> tuple[str, str]:
    """Mean and interval as analysed; before there is an analysis, the mean of what is there."""
    summary = study.summary(variant)
    if summary is not None:
        if summary.mean is None:
            median = summary.median
            return (numbers.MISSING if median is None else f"median {median:.4f}"), numbers.MISSING
        if summary.interval is None:
            return numbers.loss(summary.mean), "no spread"
        return numbers.loss(summary.mean), numbers.interval(summary.interval)
    trials = [trial for trial in study.of(variant) if trial.outcome is not None]
    if not trials or not all(trial.completed for trial in trials):
        return numbers.MISSING, numbers.MISSING
    return numbers.loss(mean_of(trials, lambda trial: trial.loss)), numbers.MISSING


def _perplexity(study: StudyResults, variant: str) -> str:
    """Of the mean loss, so that it says the same as the mean loss does."""
    mean = _mean_without_losses(study, variant, lambda trial: trial.loss)
    return numbers.MISSING if mean is None else numbers.decimal(perplexity(mean))


def _difference_cells(study: StudyResults, variant: str) -> tuple[str, str, str, str]:
    """Difference, its interval, adjusted p and verdict."""
    if variant == study.baseline:
        word = "baseline, not tuned" if not_tuned(study, variant) else "baseline"
        return numbers.MISSING, numbers.MISSING, numbers.MISSING, word
    comparison = study.comparison(variant)
    if comparison is None:
        return (numbers.MISSING,) * 4
    return (
        numbers.difference(comparison.mean_difference),
        numbers.interval(comparison.interval, signed=True),
        numbers.probability(comparison.p_holm),
        comparison.verdict + (", not tuned" if not_tuned(study, variant) else ""),
    )


def targets(study: StudyResults) -> Table | None:
    """Each variant's mean against the target that was fixed in advance."""
    rows = [
        (
            item.variant,
            "yes" if item.below else "not shown",
            numbers.loss(item.mean),
            numbers.loss(item.upper_bound),
            str(item.n),
            numbers.probability(item.p_holm),
        )
        for item in study.targets
    ]
    if not rows:
        return None
    return table(
        f"Below the target of {study.targets[0].target:g}?",
        [*left("variant", "below"), *right("loss", "upper bound", "n", "adjusted p")],
        rows,
        note="One-sided t test of the mean; the upper bound is that of this variant alone.",
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


def _accuracy(trial: TrialSnapshot) -> float | None:
    return trial.outcome.validation_accuracy if trial.outcome else None


def _train_time(trial: TrialSnapshot) -> float | None:
    return trial.last.train_time_s if trial.last else None
