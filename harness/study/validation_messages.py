"""Turns what pydantic found wrong into sentences with dotted paths and the nearest known key."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails


def describe(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Each mistake as `dotted.path: message`, in the order of the file's sections."""
    return [line for details in error.errors() for line in _lines(details, model)]


def _lines(details: ErrorDetails, model: type[BaseModel]) -> Iterator[str]:
    path, known_keys = _walk(details["loc"], model)
    dotted = ".".join(path)
    prefix = f"{dotted}: " if dotted else ""
    kind, given = details["type"], details["input"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], known_keys, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known_keys)}"
        yield f"{prefix}unknown key; {hint}"
    elif kind == "missing":
        yield f"{prefix}missing: this key is required"
    elif kind == "value_error":
        # A validator's own sentence; several mistakes come as several lines.
        for line in str(details["ctx"]["error"]).split("\n"):
            yield f"{prefix}{line}"
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        allowed = str(details["ctx"].get("expected_tags", ""))
        got = details["ctx"].get("tag", "nothing")
        discriminator = str(details["ctx"]["discriminator"]).strip("'_()")
        yield f"{prefix}`{discriminator}` is {got!r}: choose one of {allowed or 'the known kinds'}"
    else:
        message = details["msg"][0].lower() + details["msg"][1:]
        got = "" if isinstance(given, dict) else f" (got {given!r})"
        yield f"{prefix}{message}{got}"


def _walk(loc: tuple[int | str, ...], model: type[BaseModel]) -> tuple[list[str], list[str]]:
    """The dotted path without union tags, and the known keys of the table it lies in."""
    path: list[str] = []
    here: list[type[BaseModel]] = [model]
    known: list[str] = list(model.model_fields)
    in_mapping = False
    for part in loc:
        if isinstance(part, int):
            path.append(str(part))
            continue
        tagged = [m for m in here if tag_of(m) == part]
        if tagged:
            here = tagged
            known = list(here[0].model_fields)
            continue
        path.append(part)
        if in_mapping:
            # A key of the user's own, such as a setting in a search space.
            in_mapping = False
            continue
        known = sorted({name for m in here for name in m.model_fields})
        annotations = [m.model_fields[part].annotation for m in here if part in m.model_fields]
        in_mapping = any(typing.get_origin(annotation) is dict for annotation in annotations)
        here = [inner for annotation in annotations for inner in models_in(annotation)]
    return path, known


def tag_of(model: type[BaseModel]) -> Any:
    """The word by which a study file chooses this model among several: its `kind`."""
    field = model.model_fields.get("kind")
    words = typing.get_args(field.annotation) if field is not None else ()
    return words[0] if words else None


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a field's annotation names, inside unions and lists too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        for argument in typing.get_args(annotation):
            yield from models_in(argument)
