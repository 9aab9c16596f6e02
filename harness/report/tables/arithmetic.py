"""In what arithmetic, on what device and by what code the measuring trials were trained."""

from __future__ import annotations

from collections import Counter

from harness.analysis.study_results import StudyResults
from harness.report import numbers
from harness.report.elements import Table, left, right, table, wide
from harness.training.records import Arithmetic, Outcome

Row = tuple[str, ...]


def arithmetic(study: StudyResults) -> Table | None:
    """One row for each way in which a variant's trials were computed; one is as it should be."""
    rows: list[Row] = []
    for variant in study.variants:
        ways = Counter(_way(t.outcome) for t in study.of(variant) if t.outcome is not None)
        rows += [(variant, str(count), *way) for way, count in ways.items()]
    if not rows:
        return None
    columns = [*left("variant"), *right("trials"), *left("training", "Newton-Schulz", "device")]
    columns += [*left("torch", "code", "sources"), wide("forms of Newton-Schulz")]
    return table("Same arithmetic, same code", columns, rows, note=_note(study))


def _way(outcome: Outcome) -> Row:
    known = outcome.arithmetic
    sources = outcome.code_sha256
    return (
        *(("not recorded", *[numbers.MISSING] * 3) if known is None else _described(known)),
        outcome.code_version or numbers.MISSING,
        numbers.MISSING if sources is None else sources[:8],
        numbers.MISSING if known is None else _forms(known),
    )


def _described(known: Arithmetic) -> Row:
    device = f"{known.device_type}: {known.device}"
    return known.precision, known.ns_dtype or numbers.MISSING, device, known.torch


def _forms(known: Arithmetic) -> str:
    """Each form once, with the shapes that have it."""
    shapes: dict[str, list[str]] = {}
    for shape, form in known.ns_forms.items():
        shapes.setdefault(form, []).append(shape)
    text = "; ".join(f"{form}: {', '.join(own)}" for form, own in shapes.items())
    return text or numbers.MISSING


def _note(study: StudyResults) -> str:
    note = (
        "Seeds are compared in pairs only where training precision, kind of device, torch and "
        "sources agree, on both sides and over all seeds, and Newton-Schulz over the seeds of a "
        "variant. Sources: the hash of the code that decides the numbers; a commit that does not "
        "touch it is the same code."
    )
    if (found := study.plan.resolution) is not None:
        note += (
            f" The study file leaves the dtype of Newton-Schulz to the hardware; it was fixed for "
            f"all trials when the plan was made, on {found.device}: {found.reason}."
        )
    return note
