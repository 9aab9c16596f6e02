"""The suite file's keys as a table for people and as JSON Schema for editors."""

from __future__ import annotations

from typing import Any

from harness.study import schema
from harness.study.suite_file import SECTIONS, SuiteFile


def rows(section: str | None = None) -> list[schema.Row]:
    """As `harness.study.schema.rows`; the sections of a study file are one row each.

    Raises:
        UserError: no such section.
    """
    return schema.rows_of(SuiteFile, section, what="a suite file")


def markdown() -> str:
    """The same as the reference page of the documentation."""
    return schema.table(rows())


def suite_json_schema() -> dict[str, Any]:
    """Of a suite file: in its sections every key of a study file, none of them required.

    What the common part leaves out, each task must name; only `optbench plan` can say so.
    """
    suite, study = SuiteFile.model_json_schema(), _partial(schema.json_schema())
    task = suite["$defs"]["TaskConfig"]["properties"]
    for section, properties in study["properties"].items():
        if section not in ("name", "question"):
            suite["properties"][section] = properties
        if section in SECTIONS:
            own = [{"const": False}] if section == "tuning" else []
            task[section] = {"anyOf": [properties, *own]} if own else properties
    suite["$defs"] |= study["$defs"]
    return suite


def _partial(schema: Any) -> Any:
    """The schema without its `required`, at any depth."""
    if isinstance(schema, dict):
        # A property of this name would be a schema of its own, and no list.
        return {
            key: _partial(value)
            for key, value in schema.items()
            if not (key == "required" and isinstance(value, list))
        }
    return [_partial(value) for value in schema] if isinstance(schema, list) else schema
