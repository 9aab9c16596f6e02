"""From the files of a study to its analysis: which runs are read, and analysis.json."""

from __future__ import annotations

import statistics
from dataclasses import replace
from itertools import takewhile

from harness.analysis.compare import analyse
from harness.analysis.growth import marked
from harness.analysis.horizon_speedup import lost_losses, worth_of_speed
from harness.analysis.result_rows import ResultRow
from harness.analysis.search.summary import summarise_search
from harness.analysis.stats.arithmetic import Computed
from harness.analysis.study_results import StudyResults, with_analysis
from harness.errors import UserError
from harness.runs.files import write_json
from harness.runs.folder import StudyFolder
from harness.runs.snapshot import StudySnapshot, TrialSnapshot, load_snapshot
from harness.study.settings import MINIMUM_SEEDS
from harness.study.study_file import horizons_wanted
from harness.training.records import Outcome

MARGIN = "analysis.margin_speedup_percent"
UNIT = "nats"
"""Of the losses of every study: cross-entropy with the natural logarithm, per token."""


def analyse_study(folder: StudyFolder) -> StudyResults:
    """Analyses the finished seeds and writes analysis.json.

    Without an analysis there is no analysis.json: `why_no_analysis` says what is missing, or the
    result's `error` why the study's settings cannot be applied to what was trained.

    Raises:
        UserError: no plan there, or one that was changed by hand.
    """
    snapshot = load_snapshot(folder)
    if why_no_analysis(snapshot) is not None:
        folder.analysis_path.unlink(missing_ok=True)
        return with_analysis(snapshot, None)
    settings, seeds = snapshot.settings.analysis, analysed_seeds(snapshot)
    rows = [row for row in results_rows(snapshot) if row.seed in seeds[row.variant]]
    try:
        analysis = analyse(rows, settings, margin=_margin(snapshot))
    except UserError as error:
        folder.analysis_path.unlink(missing_ok=True)
        return with_analysis(snapshot, None, error=str(error))
    analysis = marked(analysis, snapshot)
    write_json(folder.analysis_path, {**analysis.to_json(), "plan_sha256": snapshot.plan.sha256})
    return with_analysis(snapshot, analysis)


def results_rows(study: StudySnapshot) -> list[ResultRow]:
    """One row for each planned confirmation trial that has an outcome, in the plan's order.

    A diverged, failed or stopped trial is a row without a value. A trial without an outcome is not
    a row: it is still to be run.
    """
    return [row for trial in study.confirmation if (row := _row(trial)) is not None]


def _row(trial: TrialSnapshot) -> ResultRow | None:
    outcome = trial.outcome
    if outcome is None:
        return None
    return ResultRow(
        variant=trial.variant,
        seed=trial.seed,
        value=trial.loss,
        outcome=outcome.outcome,
        initial_sha256=outcome.initial_parameters_sha256,
        batches_sha256=outcome.batches_sha256,
        diverged_at_step=outcome.diverged_at_step,
        unit=UNIT,
        computed=computed_by(outcome),
    )


def computed_by(outcome: Outcome) -> Computed:
    """What the outcome recorded of its arithmetic and code, as the certificate reads it."""
    code = Computed(code=outcome.code_sha256, version=outcome.code_version)
    if (arithmetic := outcome.arithmetic) is None:
        return code
    return replace(
        code,
        precision=arithmetic.precision,
        device_type=arithmetic.device_type,
        torch=arithmetic.torch,
        ns_dtype=arithmetic.ns_dtype,
    )


def analysed_seeds(study: StudySnapshot) -> dict[str, tuple[int, ...]]:
    """The seeds of each variant that are analysed.

    Without looks: those at which every variant has an outcome, because a variant that happens to
    be a seed ahead would break the pairs. With looks: each variant's first seeds without a gap,
    because a decided variant is not trained any further.
    """
    if not study.settings.analysis.looks:
        return dict.fromkeys(study.variants, study.whole_seeds())
    return {
        variant: tuple(
            trial.seed for trial in takewhile(lambda t: t.outcome is not None, study.of(variant))
        )
        for variant in study.variants
    }


def why_no_analysis(study: StudySnapshot) -> str | None:
    """The reason why nothing can be said yet; None if something can."""
    settings = study.settings.analysis
    if not study.challengers and settings.target is None:
        return f"The study has one variant only ({study.baseline}): there is nothing to compare."
    search = summarise_search(study)
    if search is not None and not study.confirmation:
        ended = sum(
            configuration.outcome is not None
            for found in search.variants.values()
            for configuration in found.configurations
        )
        return (
            f"The search is not over ({ended} configurations have ended) and the confirmation "
            "has not begun: run the study again, it continues where it stopped."
        )
    needed = min(settings.looks or [MINIMUM_SEEDS])
    done, planned = min(map(len, analysed_seeds(study).values())), len(study.seeds)
    if done >= needed:
        return _why_no_margin(study, needed)
    return (
        f"{done} of {planned} seeds are finished for every variant and a verdict needs at least "
        f"{needed}: "
        + (
            "run the study again, it continues where it stopped."
            if planned >= needed
            else f"plan at least {needed} confirmation seeds."
        )
    )


def _why_no_margin(study: StudySnapshot, needed: int) -> str | None:
    settings = study.settings.analysis
    if settings.margin_speedup_percent is None or not settings.horizons:
        return None
    done = len(_margin_seeds(study))
    if done >= needed:
        return None
    steps = ", ".join(map(str, settings.horizons))
    return (
        f"The margin needs {study.baseline} at {steps} steps too, and {done} of at least {needed} "
        "seeds are finished there: run the study again, it continues where it stopped."
    )


def _margin(study: StudySnapshot) -> float | None:
    """What a margin in percent of speed is worth in nats, by the baseline's losses at all lengths.

    Raises:
        UserError: a margin in percent of speed is asked for and these losses do not give it.
    """
    settings, tokens_per_step = study.settings.analysis, study.settings.tokens_per_step
    percent = settings.margin_speedup_percent
    if percent is None:
        return None
    if not settings.horizons:
        raise UserError(f"{MARGIN}: {horizons_wanted(study.settings)}")
    lengths, seeds = study.losses_by_length(study.baseline), _margin_seeds(study)
    if lost := lost_losses(study.baseline, lengths, seeds):
        raise UserError(
            f"{MARGIN}: {'; '.join(lost)}: train what failed again with --retry-failed, or state "
            "margin_nats"
        )
    try:
        return worth_of_speed(
            percent,
            at=study.settings.training.steps * tokens_per_step,
            tokens=[steps * tokens_per_step for steps in lengths],
            losses=[statistics.fmean(own[seed] for seed in seeds) for own in lengths.values()],
        )
    except ValueError as error:
        raise UserError(f"{MARGIN}: {error}; or state margin_nats instead") from None


def _margin_seeds(study: StudySnapshot) -> tuple[int, ...]:
    """The seeds at which the baseline has ended at every length.

    With looks only those of the first look, all along: a margin that moved from look to look could
    take back what an earlier look decided.
    """
    looks = study.settings.analysis.looks
    seeds = study.seeds[: looks[0]] if looks else study.whole_seeds()
    runs = [*study.of(study.baseline), *study.of(study.baseline, "horizon")]
    waiting = {trial.seed for trial in runs if trial.outcome is None}
    return tuple(seed for seed in seeds if seed not in waiting)
