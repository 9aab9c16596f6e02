"""Files read back: whole and as they were written, or one error that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from harness.errors import UserError

T = TypeVar("T")
LONGEST_REASON = 160
RESTORE = (
    "restore it from a copy, or start the study in a new folder (another --runs-dir or `name`)"
)
MADE_AGAIN = "delete it: the next `optbench run` writes it again"


def damaged(path: Path, reason: str, advice: str) -> UserError:
    return UserError(f"{path} cannot be used: {reason}: {advice}")


def exists(path: Path) -> bool:
    """Whether something is there, if only a folder, or a file that nobody may read."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def read_text(path: Path, advice: str) -> str:
    """
    Args:
        advice: what a person should do about a file that cannot be used.

    Raises:
        UserError: a folder, an unreadable file, or bytes that are not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise damaged(path, f"cannot read it ({error.strerror})", advice) from None
    except UnicodeDecodeError as error:
        raise damaged(path, f"not UTF-8 text at byte {error.start}", advice) from None


def read_values(path: Path, advice: str) -> dict[str, Any]:
    """One JSON object.

    Raises:
        UserError: as `read_text`; or no JSON; or JSON of something else.
    """
    try:
        values = from_json(read_text(path, advice), allow_inf_nan=False)
    except ValueError as error:
        raise damaged(path, f"not valid JSON ({_short(str(error))})", advice) from None
    if not isinstance(values, dict):
        raise damaged(path, "its JSON is not an object", advice)
    return values


def validated(adapter: TypeAdapter[T], values: Any, path: Path, advice: str) -> T:
    """
    Raises:
        UserError: the values are not those of such a record; says which, without a dump.
    """
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        raise damaged(path, _mistake(error), advice) from None


def read_record(path: Path, adapter: TypeAdapter[T], advice: str) -> T:
    """A file that is one record in JSON.

    Raises:
        UserError: it cannot be read, is no JSON, or not such a record.
    """
    text = read_text(path, advice)
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        raise damaged(path, _mistake(error), advice) from None


def read_records(path: Path, adapter: TypeAdapter[T], advice: str) -> list[T]:
    """A record a line; none if there is no file. A last line cut by a crash is left out.

    Raises:
        UserError: as `read_record`, with the number of the line.
    """
    if not exists(path):
        return []
    return list(_records(path, adapter, advice))


def _records(path: Path, adapter: TypeAdapter[T], advice: str) -> Iterator[T]:
    for number, line in enumerate(read_text(path, advice).split("\n")[:-1], start=1):
        try:
            yield adapter.validate_json(line)
        except ValidationError as error:
            raise damaged(path, f"line {number}: {_mistake(error)}", advice) from None


def _mistake(error: ValidationError) -> str:
    """The first thing that is wrong, and how many more."""
    details = error.errors(include_url=False, include_input=False, include_context=False)
    where = ".".join(str(part) for part in details[0]["loc"])
    message = details[0]["msg"].removeprefix("Value error, ")
    more = f", and {len(details) - 1} more" if len(details) > 1 else ""
    return _short(f"{where}: {message}" if where else message) + more


def _short(text: str) -> str:
    line = (text.splitlines() or [""])[0]
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 3] + "..."
