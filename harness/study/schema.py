"""The study file's keys as a table for people and as JSON Schema for editors."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from harness.errors import UserError
from harness.study.study_file import Study
from harness.study.validation_messages import models_in, tag_of
from models.config import SIZES

Row = tuple[str, str, str, str]


def json_schema() -> dict[str, Any]:
    """With what a validator takes in place of the fields: a size's name, the default space."""
    schema = Study.model_json_schema()
    size = {"enum": list(SIZES), "description": "names a size; other keys override it"}
    schema["$defs"]["ModelConfig"]["properties"]["size"] = size
    space = schema["$defs"]["VariantConfig"]["properties"]["space"]
    dimensions = {key: space.pop(key) for key in ("additionalProperties", "type")}
    space["anyOf"] = [dimensions, {"const": "default"}]
    return schema


def rows(section: str | None = None) -> list[Row]:
    """`(dotted key, type, default, meaning)` of every key, nested tables after their parent.

    Raises:
        UserError: no such section.
    """
    return rows_of(Study, section, what="a study file")


def rows_of(model: type[BaseModel], section: str | None, *, what: str) -> list[Row]:
    """As `rows`, of another kind of file."""
    sections = list(model.model_fields)
    if section is not None and section not in sections:
        raise UserError(f"no section {section!r} in {what}: choose one of {sections}")
    return [
        row
        for row in _rows(model, "")
        if section is None or row[0].removesuffix("[]").split(".")[0].removesuffix("[]") == section
    ]


def markdown() -> str:
    """The same as the reference page of the documentation."""
    return table(rows())


def table(rows: list[Row]) -> str:
    lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for row in rows:
        cells = (f"`{row[0]}`", row[1], f"`{row[2]}`" if row[2] else "required", row[3])
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _rows(model: type[BaseModel], prefix: str) -> Iterator[Row]:
    for name, field in model.model_fields.items():
        nested = list(models_in(field.annotation))
        if not nested:
            yield f"{prefix}{name}", _type(field), _default(field), field.description or ""
            continue
        many = typing.get_origin(field.annotation) is tuple
        path = f"{prefix}{name}{'[]' if many else ''}"
        empty = "[]" if many else "{}"
        default = "" if field.is_required() else "None" if field.default is None else empty
        yield path, "list of tables" if many else "table", default, field.description or ""
        for inner in nested:
            tag = tag_of(inner) if len(nested) > 1 else None
            yield from _rows(inner, f"{path}.{tag}." if tag else f"{path}.")


def _type(field: FieldInfo) -> str:
    annotation = field.annotation
    if typing.get_origin(annotation) is typing.Literal:
        return " | ".join(repr(value) for value in typing.get_args(annotation))
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return repr(field.default_factory())  # type: ignore[call-arg]
    return "" if field.default is PydanticUndefined else repr(field.default)
