"""From a file to a validated study: TOML, overrides, and every mistake at once."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.errors import UserError
from harness.study.external import with_sources
from harness.study.study_file import Study
from harness.study.validation_messages import describe


def load_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Reads and validates a study file, after `section.key=value` overrides.

    Raises:
        UserError: with every mistake on its own line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot read the study file {path}: {error.strerror}: give the path of a TOML file, "
            "such as studies/quickstart.toml"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: give the path of a TOML file") from None
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None
    for override in overrides:
        _override(values, override)
    try:
        study = Study.model_validate(values)
    except ValidationError as error:
        raise _mistakes(describe(error, Study), path) from None
    study, mistakes = with_sources(study)
    if mistakes:
        raise _mistakes(mistakes, path)
    return study


def _mistakes(lines: list[str], path: Path) -> UserError:
    count = f"{len(lines)} mistake{'s' if len(lines) > 1 else ''} in {path}"
    return UserError("\n  ".join([f"{count}:", *lines]))


def _override(values: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    if not separator or not path.strip():
        raise UserError(
            f"--set {override!r}: write section.key=value, for example --set training.steps=200"
        )
    *parents, last = path.strip().split(".")
    here: Any = values
    while parents:
        length = _length_of_name(here, parents)
        part, parents = ".".join(parents[:length]), parents[length:]
        here = _child(here, part, override)
    if isinstance(here, list):
        here[_index(here, last, override)] = _toml_value(text)
    elif isinstance(here, dict):
        here[last] = _toml_value(text)
    else:
        raise UserError(f"--set {override!r}: there is nothing inside the parent of {last!r}")


def _length_of_name(here: Any, parts: Sequence[str]) -> int:
    """How many parts of a path are the next name: more than one for an item such as `muon-0.5`."""
    items = here if isinstance(here, list) else []
    names = {item.get("name") for item in items if isinstance(item, dict)}
    lengths = range(len(parts), 1, -1)
    return next((length for length in lengths if ".".join(parts[:length]) in names), 1)


def _child(here: Any, part: str, override: str) -> Any:
    if isinstance(here, list):
        return here[_index(here, part, override)]
    if isinstance(here, dict):
        return here.setdefault(part, {})
    raise UserError(f"--set {override!r}: there is nothing inside the parent of {part!r}")


def _index(here: list[Any], part: str, override: str) -> int:
    """A list item by its position, or by its `name` (variants.muon.optimizer.lr=0.01)."""
    names = [item.get("name") if isinstance(item, dict) else None for item in here]
    if part in names:
        return names.index(part)
    if part.isdigit() and int(part) < len(here):
        return int(part)
    raise UserError(
        f"--set {override!r}: no item {part!r} here: use a position below {len(here)} or one of "
        f"the names {[name for name in names if name]}"
    )


def _toml_value(text: str) -> Any:
    """The value as TOML; bare words are strings."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()
