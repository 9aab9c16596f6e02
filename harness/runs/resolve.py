"""A study's `auto` becomes a dtype: that of the folder's plan, or what this machine is good at."""

from __future__ import annotations

from dataclasses import dataclass

from harness.runs.folder import StudyFolder
from harness.runs.plan_file import load_plan
from harness.study.plan import Plan
from harness.study.resolution import Resolution, device_type, is_resolved, resolved
from harness.study.study_file import Study, frozen_study


@dataclass(frozen=True, kw_only=True)
class ResolvedStudy:
    """A study that names every dtype, where they come from, and what a person should hear of it."""

    study: Study
    resolution: Resolution | None
    notice: str | None = None


def resolve(study: Study, folder: StudyFolder | None = None) -> ResolvedStudy:
    """Puts a dtype in the place of every `auto`; a study that says it nowhere stays as it is.

    A study that goes on in its folder keeps what its plan says, on whatever machine. One whose plan
    was frozen before dtypes were resolved keeps its `auto`, which its trials' keys hold.

    Raises:
        UserError: the folder's plan was changed by hand.
    """
    if is_resolved(study):
        return ResolvedStudy(study=study, resolution=None)
    plan = load_plan(folder) if folder is not None and folder.plan_path.exists() else None
    if plan is not None and plan.resolution is None and not is_resolved(frozen_study(plan.study)):
        return ResolvedStudy(study=study, resolution=None, notice=UNRESOLVED_PLAN)
    here = this_machine(study)
    frozen = _frozen(plan, study)
    chosen = frozen or here
    return ResolvedStudy(
        study=resolved(study, chosen),
        resolution=chosen,
        notice=_kept(frozen, here) if frozen is not None else None,
    )


UNRESOLVED_PLAN = (
    'the plan in this folder is of a version that left `ns_dtype = "auto"` to each worker: it '
    "stays so here, and every outcome records what the worker took"
)


def this_machine(study: Study) -> Resolution:
    """What this machine would take for the device that the study trains on."""
    from optimizers.hardware import best_dtype_name, device_name, hardware_words

    device = device_type(study)
    dtype, reason = best_dtype_name(device)
    return Resolution(
        ns_dtype=dtype,
        reason=reason,
        device_type=device,
        device=device_name(device),
        words=hardware_words(device),
    )


def _frozen(plan: Plan | None, study: Study) -> Resolution | None:
    """That of the plan, if it was made for the device that the study trains on now."""
    found = None if plan is None else plan.resolution
    return found if found is not None and found.device_type == device_type(study) else None


def _kept(frozen: Resolution, here: Resolution) -> str | None:
    if frozen.ns_dtype == here.ns_dtype:
        return None
    return (
        f"Newton-Schulz is computed in {frozen.ns_dtype}, as this study's plan says (decided on "
        f"{frozen.device}); this machine would take {here.reason}"
    )
