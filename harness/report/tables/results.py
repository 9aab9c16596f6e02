"""What came out: losses, differences, outcomes."""

from __future__ import annotations

from collections.abc import Callable

from harness.report import numbers
from harness.report.blocks import Table, left, right, table, wide
from harness.report.measures import MEASURES, change
from harness.report.rows import perplexity
from harness.report.tuned import not_tuned
from harness.report.view import OUTCOMES, StudyView, TrialView, mean_of

OUTCOME_WORDS = {"out_of_memory": "out of memory"}


def results(view: StudyView) -> Table:
    """Rank, verdict, loss, the difference from the baseline, and what else a reader compares."""
    rows = []
    for rank, variant in enumerate(view.ranked(), start=1):
        trials = view.of(variant)
        difference, interval, adjusted_p, verdict = _difference_cells(view, variant)
        shift = change(view, variant, MEASURES[0])
        rows.append(
            (
                str(rank),
                variant,
                verdict,
                *_loss_cells(view, variant),
                difference,
                interval,
                numbers.change(shift.mean if shift else None),
                adjusted_p,
                _perplexity(view, variant),
                numbers.percent(_mean_without_losses(view, variant, _accuracy), digits=2),
                numbers.duration(_mean_without_losses(view, variant, _train_time)),
                outcomes_in_words(trials),
            )
        )
    columns = [
        *right("rank"),
        *left("variant", "verdict"),
        *right("loss", "interval", f"loss − {view.baseline}", "interval"),
        *right("change", "adjusted p"),
        *right("perplexity", "accuracy", "training time"),
        *left("completed"),
    ]
    strong = frozenset(
        index for index, variant in enumerate(view.ranked()) if variant == view.baseline
    )
    return table("Variants, best first", columns, rows, strong_rows=strong, note=_note(view))


def _mean_without_losses(
    view: StudyView, variant: str, value: Callable[[TrialView], float | None]
) -> float | None:
    """Mean over the analysed seeds; None if one of them did not complete."""
    seeds = summary["seeds"] if (summary := view.summary(variant)) else view.seeds
    trials = [t for t in view.of(variant) if t.seed in seeds and t.outcome is not None]
    return mean_of(trials, value) if all(trial.completed for trial in trials) else None


def _note(view: StudyView) -> str:
    note = (
        "Loss: mean of the seeds' final validation losses in nats, with its t interval. A variant "
        "that lost a seed has no mean: its median stands there, lost seeds counted as the worst. "
        "The difference from the baseline has an interval of its own, narrower where seeds are "
        "paired; the change is the same in percent of the baseline. The p is adjusted for the "
        "number of comparisons (Holm). Perplexity is exp(loss). Training time leaves out start-up "
        "and evaluation."
    )
    twins = {frozenset({v, *view.twins(v)}) for v in view.variants if view.twins(v)}
    for group in sorted(sorted(group) for group in twins):
        note += f" {' and '.join(group)} are the same configuration and share their training runs."
    return note


def _loss_cells(view: StudyView, variant: str) -> tuple[str, str]:
    """Mean and interval as analysed; before there is an analysis, the mean of what is there."""
    summary = view.summary(variant)
    if summary is not None:
        if summary["mean"] is None:
            median = summary["median"]
            return (numbers.MISSING if median is None else f"median {median:.4f}"), numbers.MISSING
        interval = summary["interval"]
        if interval is None:
            return numbers.loss(summary["mean"]), "no spread"
        return numbers.loss(summary["mean"]), numbers.interval(interval["low"], interval["high"])
    trials = [trial for trial in view.of(variant) if trial.outcome is not None]
    if not trials or not all(trial.completed for trial in trials):
        return numbers.MISSING, numbers.MISSING
    return numbers.loss(mean_of(trials, lambda trial: trial.loss)), numbers.MISSING


def _perplexity(view: StudyView, variant: str) -> str:
    """Of the mean loss, so that it says the same as the mean loss does."""
    mean = _mean_without_losses(view, variant, lambda trial: trial.loss)
    return numbers.MISSING if mean is None else numbers.decimal(perplexity(mean))


def _difference_cells(view: StudyView, variant: str) -> tuple[str, str, str, str]:
    """Difference, its interval, adjusted p and verdict."""
    if variant == view.baseline:
        word = "baseline, not tuned" if not_tuned(view, variant) else "baseline"
        return numbers.MISSING, numbers.MISSING, numbers.MISSING, word
    comparison = view.comparison(variant)
    if comparison is None:
        return (numbers.MISSING,) * 4
    interval = comparison["interval"] or {}
    return (
        numbers.difference(comparison["mean_difference"]),
        numbers.interval(interval.get("low"), interval.get("high"), signed=True),
        numbers.probability(comparison["p_holm"]),
        comparison["verdict"] + (", not tuned" if not_tuned(view, variant) else ""),
    )


def targets(view: StudyView) -> Table | None:
    """Each variant's mean against the target that was fixed in advance."""
    rows = [
        (
            item["variant"],
            "yes" if item["below"] else "not shown",
            numbers.loss(item["mean"]),
            numbers.loss(item["upper_bound"]),
            str(item["n"]),
            numbers.probability(item["p_holm"]),
        )
        for item in view.targets
    ]
    if not rows:
        return None
    return table(
        f"Below the target of {view.targets[0]['target']:g}?",
        [*left("variant", "below"), *right("loss", "upper bound", "n", "adjusted p")],
        rows,
        note="One-sided t test of the mean; the upper bound is that of this variant alone.",
    )


def outcomes(view: StudyView) -> Table:
    """How many trials of each variant ended in which way."""
    rows = []
    for variant in view.ranked():
        trials = view.of(variant)
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


def failures(view: StudyView) -> Table | None:
    """Every trial that ended in another way than completed, with its reason."""
    rows = [
        (
            trial.variant,
            str(trial.seed),
            OUTCOME_WORDS.get(trial.state, trial.state),
            str(trial.outcome.diverged_at_step or trial.outcome.step),
            trial.outcome.reason or numbers.MISSING,
        )
        for trial in view.confirmation
        if trial.outcome is not None and not trial.completed
    ]
    columns = [*left("variant"), *right("seed"), *left("outcome"), *right("step"), wide("reason")]
    return table("Trials without a final loss", columns, rows) if rows else None


def outcomes_in_words(trials: tuple[TrialView, ...]) -> str:
    """`8 of 8`, followed by every other outcome with its count."""
    counts = {word: sum(trial.state == word for trial in trials) for word in OUTCOMES}
    text = f"{counts.pop('completed')} of {len(trials)}"
    others = [f"{n} {OUTCOME_WORDS.get(word, word)}" for word, n in counts.items() if n]
    return ", ".join([text, *others])


def _accuracy(trial: TrialView) -> float | None:
    return trial.outcome.validation_accuracy if trial.outcome else None


def _train_time(trial: TrialView) -> float | None:
    return trial.last.train_time_s if trial.last else None
