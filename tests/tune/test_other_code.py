"""Trials that other code has trained are trained again where that is asked for."""

from __future__ import annotations

from collections.abc import Callable

from harness.runs.folder import StudyFolder
from harness.runs.plan_file import load_plan
from harness.study.code_version import code_sha256
from harness.study.study_file import frozen_study
from tune.confirmation import confirmation_batches


def test_trials_of_other_code_are_missing_where_they_are_to_be_trained_again(
    made_up_study: Callable[..., StudyFolder],
) -> None:
    folder = made_up_study()
    plan = load_plan(folder)
    study = frozen_study(plan.study)
    for row in plan.trials:
        outcome = folder.trial(row.key).outcome()
        assert outcome is not None
        code = code_sha256() if row.seed < 3 else "f" * 16
        folder.trial(row.key).finish(outcome.model_copy(update={"code_sha256": code}))

    def missing(code: str | None) -> set[tuple[str, int]]:
        (batch,) = confirmation_batches(study, folder, retry_failed=False, code=code)
        return {(job.variants[0], job.spec.seed) for job in batch.missing}

    assert missing(None) == set()
    assert missing(code_sha256()) == {(name, seed) for name in ("adamw", "muon") for seed in (3, 4)}
