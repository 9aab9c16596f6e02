"""plan.json: frozen before the first trial, checked whenever it is read, amended with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.errors import UserError
from harness.runs.files import write_json, write_text
from harness.runs.folder import Amendment, StudyFolder
from harness.runs.reading import RESTORE, damaged, exists, read_values, validated
from harness.runs.search_log import SearchLog, Suggested, chosen_points
from harness.study.plan import (
    Plan,
    PlannedTrial,
    differences,
    make_plan,
    measuring_trials,
    with_chosen,
)
from harness.study.study_file import Study, frozen_study
from harness.study.validation_messages import describe

_PLAN = TypeAdapter(Plan)


def freeze(folder: StudyFolder, plan: Plan, *, source: Path, amend: str | None = None) -> None:
    """Writes the plan before the first trial, or checks that the one on disk is the same.

    Args:
        amend: why a changed plan may replace the frozen one; kept, and printed in the report.

    Raises:
        UserError: the folder holds results of a different plan; nothing is overwritten.
    """
    if exists(folder.plan_path):
        frozen = load_plan(folder)
        today = _written_today(frozen)
        if plan.sha256 in (frozen.sha256, today.sha256):
            return
        changes = list(differences(_hashed(today), _hashed(plan)))
        if not amend:
            raise UserError(
                f"{folder.path} holds results of a different plan. Changed: "
                + "; ".join(changes[:6])
                + (f"; and {len(changes) - 6} more" if len(changes) > 6 else "")
                + ". A changed plan is a new study: give it a new `name` or another --runs-dir, "
                'or say with --amend "why" that the change is meant; the report will show it.'
            )
        amendment = Amendment(
            why=amend,
            when=datetime.now(UTC).isoformat(timespec="seconds"),
            from_sha256=frozen.sha256,
            to_sha256=plan.sha256,
            changes=tuple(changes),
            outcomes=sum(folder.trial(key).outcome() is not None for key in frozen.distinct_keys),
        )
        amendments = [*folder.amendments(), amendment]
        write_json(folder.amendments_path, [a.model_dump(mode="json") for a in amendments])
    write_text(folder.path / "study.toml", source.read_text(encoding="utf-8"))
    write_json(folder.plan_path, {**plan.model_dump(mode="json"), "plan_sha256": plan.sha256})


def _hashed(plan: Plan) -> dict[str, Any]:
    return plan.fixed()


def _written_today(frozen: Plan) -> Plan:
    """The frozen plan as this version writes it: with a value for each setting that is new.

    An older version's folder is continued where that is all that differs. Where this version
    refuses the settings, or would train other runs for them, it is the frozen plan itself.
    """
    try:
        study = frozen_study(frozen.study)
        data, resolution, version = frozen.data_sha256, frozen.resolution, frozen.plan_version
        alike = make_plan(study, data, resolution=resolution, version=version)
        today = make_plan(study, data, resolution=resolution)
    except ValidationError:
        return frozen
    found_later = bool(frozen.study.get("tuning"))
    return today if found_later or alike.trials == frozen.trials else frozen


def load_plan(folder: StudyFolder) -> Plan:
    """Reads plan.json, checks it against its own hash, and adds the trials that a search found.

    Raises:
        UserError: no plan there, or one that is damaged or was edited by hand.
    """
    if not exists(folder.plan_path):
        raise UserError(f"no study in {folder.path}: run `optbench run STUDY` first")
    values = read_values(folder.plan_path, RESTORE)
    stated = values.pop("plan_sha256", None)
    plan = validated(_PLAN, values, folder.plan_path, RESTORE)
    if plan.sha256 != stated:
        raise UserError(
            f"{folder.plan_path} was changed after it was written (its hash does not agree): "
            "restore it, or start the study in a new folder"
        )
    if plan.study.get("tuning"):
        return plan.model_copy(update={"trials": tuple(_found_by_search(plan, folder))})
    return plan


def frozen_settings(folder: StudyFolder, plan: Plan) -> Study:
    """The settings of the folder's plan, validated.

    Raises:
        UserError: this version of the code cannot read them.
    """
    try:
        return frozen_study(plan.study)
    except ValidationError as error:
        mistake = describe(error, Study)[0]
        advice = "read the study with the version that wrote it, or start it in a new folder"
        raise damaged(
            folder.plan_path, f"this version cannot read it ({mistake})", advice
        ) from None


def _found_by_search(plan: Plan, folder: StudyFolder) -> Iterator[PlannedTrial]:
    """The rows that only the search could know: its trials and, once it is over, those chosen."""
    events = SearchLog(folder.path).events()
    for event in events:
        if isinstance(event, Suggested):
            for seed, key in event.keys.items():
                yield PlannedTrial(variant=event.variant, phase="tuning", seed=seed, key=key)
    study, chosen = frozen_settings(folder, plan), chosen_points(events)
    if chosen.keys() == {variant.name for variant in study.variants}:
        yield from measuring_trials(
            with_chosen(study, chosen), plan.data_sha256, key_of=plan.key_of
        )
