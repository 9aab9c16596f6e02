"""Which algorithm updates which parameter, and why.

Rules are tried in order and the first match wins. A rule that a person wrote and that matches
nothing is an error, and so is a parameter that no rule claims: both are usually a misspelt name.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Algorithm = Literal["muon", "soap", "shampoo", "adamw"]

# A matrix of one row or column is a vector, a batch of matrices has three dimensions.
_MATRIX_DIMENSIONS = (2, 3)


class RouteRule(BaseModel):
    """Parameters whose name matches `pattern` go to `algorithm`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str = Field(
        min_length=1,
        description="Shell-style pattern on the parameter's full name, e.g. *.router.*",
    )
    algorithm: Algorithm = Field(description="The optimizer's own kind, such as muon, or adamw.")
    reason: str = Field(default="asked for in the study", description="Shown in the report.")


class MatrixSplit(BaseModel):
    """Fused weights are several matrices, one above the other: Q, K and V, or one a head."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str = Field(
        min_length=1,
        description="Shell-style pattern on the parameter's full name, e.g. *.qkv.weight",
    )
    parts: int | None = Field(
        default=None, ge=2, description="Number of equal blocks of rows: 3 for QKV, or the heads."
    )
    rows: tuple[int, ...] | None = Field(
        default=None,
        description="Rows of each block, when they differ (grouped-query attention: q, k, v).",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> MatrixSplit:
        if (self.parts is None) == (self.rows is None):
            raise ValueError("give either parts (equal blocks) or rows (the rows of each block)")
        if self.rows is not None and (len(self.rows) < 2 or min(self.rows) < 1):
            raise ValueError(f"rows must list at least two positive sizes, got {self.rows}")
        return self

    def block_rows(self, name: str, rows: int) -> tuple[int, ...]:
        """The rows of each block of a parameter with `rows` rows."""
        if self.rows is not None:
            if sum(self.rows) != rows:
                raise ValueError(
                    f"{name} has {rows} rows and the split {self.pattern!r} names {sum(self.rows)} "
                    f"({self.rows}): the sizes must add up"
                )
            return self.rows
        assert self.parts is not None, "validated: parts or rows"
        if rows % self.parts:
            raise ValueError(
                f"{name} has {rows} rows, which {self.parts} parts (split {self.pattern!r}) do "
                "not divide: choose a divisor, or name the rows of each block"
            )
        return (rows // self.parts,) * self.parts


@dataclass(frozen=True)
class Matrix:
    """One matrix inside a parameter: a contiguous range of its flattened elements.

    Args:
        parameter: Name of the parameter.
        index: Which of its matrices (the expert, the block of a fused weight).
        offset: First element in the flattened parameter.
        rows, columns: m and n.
        input_first: Whether it is stored as (inputs, outputs) instead of (outputs, inputs). Only
            the scale by shape looks at it.
    """

    parameter: str
    index: int
    offset: int
    rows: int
    columns: int
    input_first: bool = False

    @property
    def numel(self) -> int:
        return self.rows * self.columns

    @property
    def fan_out_in(self) -> tuple[int, int]:
        """`(outputs, inputs)`, whichever way the matrix is stored."""
        return (self.columns, self.rows) if self.input_first else (self.rows, self.columns)


@dataclass(frozen=True)
class Route:
    """Where one parameter goes, and why.

    Args:
        name: The parameter.
        shape: Its logical (unsharded) shape.
        algorithm: `muon`, `adamw`, or the word of another optimizer.
        group: Name of the parameter group.
        reason: One phrase.
        matrices: What the owners see whole; empty for AdamW.
    """

    name: str
    shape: tuple[int, ...]
    algorithm: str
    group: str
    reason: str
    matrices: tuple[Matrix, ...] = ()

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def num_matrices(self) -> int:
        return len(self.matrices)

    @property
    def matrix_shapes(self) -> tuple[tuple[int, int], ...]:
        """The distinct `(m, n)`, in order of appearance."""
        return tuple(dict.fromkeys((matrix.rows, matrix.columns) for matrix in self.matrices))


# The model's Q, K and V, stacked along the rows.
FUSED_QKV = (MatrixSplit(pattern="*.qkv.weight", parts=3),)


def default_rules(*, include_router: bool) -> tuple[RouteRule, ...]:
    """What optimizers of matrices leave to AdamW by name; vectors and scalars go there by shape."""
    rules = [
        ("*embedding*", "an embedding: each row is looked up, not multiplied"),
        ("*embed_tokens*", "an embedding: each row is looked up, not multiplied"),
        ("head.*", "the head: its rows are tokens"),
        ("*.head.*", "the head: its rows are tokens"),
        ("*lm_head*", "the head: its rows are tokens"),
        ("*norm*", "a norm"),
        ("*bias", "a bias"),
    ]
    if not include_router:
        rules.append(("*router*", "the router: small, and its rows are experts"))
    return tuple(RouteRule(pattern=p, algorithm="adamw", reason=why) for p, why in rules)


def adamw_group(shape: Sequence[int]) -> str:
    """`adamw_decay` for tensors of two or more dimensions, `adamw_no_decay` for the others."""
    return "adamw_decay" if len(shape) >= 2 else "adamw_no_decay"


def route_parameters(
    named_shapes: Iterable[tuple[str, tuple[int, ...]]],
    *,
    rules: Sequence[RouteRule],
    defaults: Sequence[RouteRule],
    splits: Sequence[MatrixSplit] = (),
    default_splits: Sequence[MatrixSplit] = (),
    input_first: Sequence[str] = (),
    kind: str = "muon",
) -> list[Route]:
    """Route every parameter: `rules` first, then `defaults`, then matrices to Muon or its like.

    Args:
        named_shapes: `(name, logical shape)`, in the order of the model.
        rules: Written by a person: each must match something.
        defaults: May match nothing.
        splits: Fused weights; each must match something that goes to `kind`.
        default_splits: The same, and may match nothing.
        input_first: Patterns of weights stored as (inputs, outputs); may match nothing.
        kind: The optimizer of the matrices: algorithm and group of their routes.

    Raises:
        ValueError: For a rule or split without a match, a parameter that nobody claims, a duplicate
            name, a rule for another optimizer, or a parameter sent to `kind` that is no matrix.
    """
    named_shapes = list(named_shapes)
    names = [name for name, _ in named_shapes]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"parameter names must be unique, got twice: {', '.join(twice)}")
    _require_matches([rule.pattern for rule in rules], names, what="route")
    for rule in rules:
        if rule.algorithm not in (kind, "adamw"):
            raise ValueError(
                f"the route {rule.pattern!r} goes to {rule.algorithm} and the optimizer is {kind}: "
                f"choose {kind} or adamw"
            )
    routes = [
        _route(name, shape, (*rules, *defaults), (*splits, *default_splits), input_first, kind)
        for name, shape in named_shapes
    ]
    shared = [route.name for route in routes if route.algorithm == kind]
    whose = f"{kind.capitalize()}'s"
    _require_matches(
        [split.pattern for split in splits], shared, what=f"split (of {whose} matrices)"
    )
    return routes


def _route(
    name: str,
    shape: tuple[int, ...],
    rules: Sequence[RouteRule],
    splits: Sequence[MatrixSplit],
    input_first: Sequence[str],
    kind: str,
) -> Route:
    rule = next((rule for rule in rules if fnmatch.fnmatchcase(name, rule.pattern)), None)
    algorithm: str
    if rule is not None:
        algorithm, reason = rule.algorithm, f"{rule.reason} ({rule.pattern})"
    elif len(shape) < 2:
        algorithm, reason = "adamw", "a vector or scalar, not a matrix"
    elif len(shape) in _MATRIX_DIMENSIONS:
        algorithm, reason = kind, "a hidden matrix" if len(shape) == 2 else "a batch of matrices"
    else:
        raise ValueError(
            f"nobody claims parameter {name} of shape {shape}: {kind} takes 2 or 3 dimensions; add "
            "a route that sends it to adamw"
        )
    if algorithm == "adamw":
        return Route(name, shape, "adamw", adamw_group(shape), reason)
    if len(shape) not in _MATRIX_DIMENSIONS:
        raise ValueError(
            f"parameter {name} of shape {shape} cannot go to {kind} ({reason}): it takes (m, n) or "
            "(K, m, n); send it to adamw"
        )
    matrices = _matrices(name, shape, splits, input_first)
    return Route(name, shape, kind, kind, reason, matrices)


def _matrices(
    name: str, shape: tuple[int, ...], splits: Sequence[MatrixSplit], input_first: Sequence[str]
) -> tuple[Matrix, ...]:
    split = next((s for s in splits if fnmatch.fnmatchcase(name, s.pattern)), None)
    *leading, rows, columns = shape
    if split is None:
        count = leading[0] if leading else 1
        blocks = (rows,) * count
    elif leading:
        raise ValueError(
            f"{name} of shape {shape} is already {leading[0]} matrices: do not split it"
        )
    else:
        blocks = split.block_rows(name, rows)
    swapped = any(fnmatch.fnmatchcase(name, pattern) for pattern in input_first)
    matrices, offset = [], 0
    for index, block in enumerate(blocks):
        matrices.append(Matrix(name, index, offset, block, columns, swapped))
        offset += block * columns
    return tuple(matrices)


def _require_matches(patterns: Sequence[str], names: Sequence[str], *, what: str) -> None:
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            known = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            raise ValueError(
                f"the {what} pattern {pattern!r} matches no parameter; there are: {known}"
            )
