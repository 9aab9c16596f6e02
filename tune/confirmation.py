"""What measures, and is trained next: every missing trial, up to each look fixed in advance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.errors import UserError
from harness.runs.folder import StudyFolder
from harness.runs.other_code import trained_by_other
from harness.runs.plan_file import load_plan
from harness.runs.search_log import SearchLog, chosen_points
from harness.study.plan import Plan, expand, with_chosen
from harness.study.study_file import Study
from tune.job import Job

TRAINED_AGAIN = ("failed", "out_of_memory")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Trials that are trained before the next look: those still `missing`, of all those wanted."""

    missing: tuple[Job, ...]
    wanted: int


def confirmation_batches(
    study: Study, folder: StudyFolder, *, retry_failed: bool, code: str | None = None
) -> Iterator[Batch]:
    """One batch for each look; ask for the next one when the trials of the last have outcomes.

    Args:
        retry_failed: whether trials that failed or ran out of memory are trained again.
        code: trials that other code than this (by its hash) has trained are trained again; None:
            they are kept.
    """
    plan = load_plan(folder)
    chosen = chosen_points(SearchLog(folder.path).events())
    specs = expand(with_chosen(study, chosen), plan.data_sha256, key_of=plan.key_of)
    variants = plan.variants_by_key()
    rows = {trial.key: trial for trial in reversed(plan.trials)}
    for wanted in wanted_keys(study, plan, folder):
        missing = []
        for key in wanted:
            outcome = folder.trial(key).outcome()
            if (
                outcome is None
                or (retry_failed and outcome.outcome in TRAINED_AGAIN)
                or (code is not None and trained_by_other(outcome, code))
            ):
                missing.append(
                    Job(
                        spec=specs[key],
                        variants=variants[key],
                        detail=rows[key].detail,
                        comparable=rows[key].phase == "confirmation",
                        planned_key=key,
                    )
                )
        yield Batch(missing=tuple(missing), wanted=len(wanted))


def wanted_keys(study: Study, plan: Plan, folder: StudyFolder) -> Iterator[list[str]]:
    """Keys of the trials up to each look; after a look, only those of undecided variants.

    The baseline's horizons go with its other trials: the same seeds, up to the same look. Every
    list is asked for when the trials of the one before have outcomes.
    """
    looks, seeds = study.analysis.looks, study.seeds.confirmation
    wanted: Mapping[str, int | None]
    wanted = {variant.name: (looks or (None,))[0] for variant in study.variants}
    while wanted:
        yield list(
            dict.fromkeys(
                trial.key
                for trial in plan.trials
                if trial.phase != "tuning"
                and trial.variant in wanted
                and trial.seed in seeds[: wanted[trial.variant]]
            )
        )
        wanted = _wanted_after_look(folder) if looks else {}


def _wanted_after_look(folder: StudyFolder) -> dict[str, int]:
    # Here, because SciPy takes a second to import, and a study without looks trains first.
    from harness.analysis.study_analysis import analyse_study

    results = analyse_study(folder)
    if results.error is not None:
        raise UserError(results.error)
    return {} if results.analysis is None else results.analysis.seeds_wanted()
