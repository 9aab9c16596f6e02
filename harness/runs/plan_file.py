"""plan.json: frozen before the first trial, checked when it is read, added to, or amended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from harness.errors import UserError
from harness.runs.files import write_json, write_text
from harness.runs.folder import StudyFolder
from harness.runs.plan_changes import Addition, Amendment
from harness.runs.reading import RESTORE, damaged, exists, read_values, validated
from harness.runs.search_log import Chosen, SearchLog, Suggested, Widened, chosen_points
from harness.study.additions import Additions, additions, without
from harness.study.plan import (
    WHERE_IT_RUNS,
    Plan,
    PlannedTrial,
    differences,
    make_plan,
    measuring_trials,
    with_chosen,
)
from harness.study.record import Record
from harness.study.study_file import Study, frozen_study
from harness.study.validation_messages import describe

_PLAN = TypeAdapter(Plan)


def freeze(
    folder: StudyFolder, plan: Plan, *, source: Path, amend: str | None = None
) -> Addition | None:
    """Writes the plan before the first trial, or checks that the one on disk is the same.

    A plan that only has more seeds, variants or horizons takes the place of the frozen one: its
    trials are among those of the new one, with their keys. What was added is noted.

    Args:
        amend: why a changed plan may replace the frozen one; kept, and printed in the report.

    Returns:
        what this call added to the frozen plan.

    Raises:
        UserError: the folder holds results of a different plan, or its search is too far for a new
            variant; nothing is overwritten.
    """
    addition = None
    if exists(folder.plan_path):
        frozen = load_plan(folder)
        today = _written_today(frozen)
        if plan.sha256 in (frozen.sha256, today.sha256):
            return None
        added = additions(today, plan)
        kept = without(plan, added)
        _check_search(folder, plan, added)
        if kept.sha256 == today.sha256:
            plan = _grown(frozen, plan)
            addition = _note_addition(folder, frozen, plan, added, why=amend)
        elif amend:
            _note_amendment(folder, frozen, plan, changes=_changes(today, plan), why=amend)
        else:
            raise _different(folder, _changes(today, kept), added)
    write_text(folder.path / "study.toml", source.read_text(encoding="utf-8"))
    write_json(folder.plan_path, {**plan.model_dump(mode="json"), "plan_sha256": plan.sha256})
    return addition


def _changes(old: Plan, new: Plan) -> list[str]:
    return list(differences(old.fixed(), new.fixed()))


def _different(folder: StudyFolder, changes: list[str], added: Additions) -> UserError:
    return UserError(
        f"{folder.path} holds results of a different plan. Changed: "
        + "; ".join(changes[:6])
        + (f"; and {len(changes) - 6} more" if len(changes) > 6 else "")
        + (f". Only added, which alone needs no --amend: {added.words}" if added else "")
        + ". A changed plan is a new study: give it a new `name` or another --runs-dir, "
        'or say with --amend "why" that the change is meant; the report will show it.'
    )


def _check_search(folder: StudyFolder, plan: Plan, added: Additions) -> None:
    """A variant can join a search in its first round, where it draws until all have drawn alike.

    Later its budget could not be equal: the others have been judged, and their spaces widened.
    """
    if not (plan.study.get("tuning") and added.variants):
        return
    events = SearchLog(folder.path).events()
    known = {e.variant for e in events if isinstance(e, Chosen)}
    known |= {name for e in events if isinstance(e, Widened) for name in e.spaces}
    kept = {v["name"] for v in plan.study["variants"] if not v.get("tuned", True)}
    if known and (late := [name for name in added.variants if name not in known | kept]):
        raise UserError(
            f"{', '.join(late)} cannot join this study: the first round of its search is over, and "
            "a search of its own afterwards would not be at an equal budget. Start a new study "
            "(another `name`) with all variants that are to be compared, or leave it out"
        )


def _grown(frozen: Plan, plan: Plan) -> Plan:
    """The new plan, of the version of the frozen one: the keys of its trials stay what they are."""
    resolution = plan.resolution or frozen.resolution
    if plan.plan_version == frozen.plan_version:
        return plan.model_copy(update={"resolution": resolution})
    occupied = {name: frozen.study[name] for name in WHERE_IT_RUNS if name in frozen.study}
    study = frozen_study({**plan.study, **occupied})
    version = frozen.plan_version
    return make_plan(study, plan.data_sha256, resolution=resolution, version=version)


def _note_addition(
    folder: StudyFolder, frozen: Plan, plan: Plan, added: Additions, *, why: str | None
) -> Addition:
    outcomes, measured = _ended(folder, frozen)
    addition = Addition(
        when=_now(),
        from_sha256=frozen.sha256,
        to_sha256=plan.sha256,
        added=added,
        why=why or None,
        comparisons=len(frozen.study["variants"]) - 1,
        outcomes=outcomes,
        measured=measured,
    )
    _write_records(folder.additions_path, [*folder.additions(), addition])
    return addition


def _note_amendment(
    folder: StudyFolder, frozen: Plan, plan: Plan, *, changes: list[str], why: str
) -> None:
    outcomes, measured = _ended(folder, frozen)
    amendment = Amendment(
        why=why,
        when=_now(),
        from_sha256=frozen.sha256,
        to_sha256=plan.sha256,
        changes=tuple(changes),
        outcomes=outcomes,
        measured=measured,
    )
    _write_records(folder.amendments_path, [*folder.amendments(), amendment])


def _write_records(path: Path, records: Sequence[Record]) -> None:
    write_json(path, [record.model_dump(mode="json") for record in records])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _ended(folder: StudyFolder, plan: Plan) -> tuple[int, int]:
    """Training runs of the plan that have an outcome, and those of them that measure."""
    ended = {key for key in plan.distinct_keys if folder.trial(key).outcome() is not None}
    measuring = {trial.key for trial in plan.trials if trial.phase != "tuning"}
    return len(ended), len(ended & measuring)


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
    if chosen.keys() == {variant.name for variant in study.searched}:
        yield from measuring_trials(
            with_chosen(study, chosen), plan.data_sha256, key_of=plan.key_of
        )
