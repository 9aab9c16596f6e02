"""Which files are whose runs: variant and seed, out of what the user said of the paths."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.logs.formats import compiled_expression
from harness.errors import UserError

SHOWN = 5
PATH_GROUPS = ("variant", "seed")
NAMED = re.compile(r"(?P<name>[\w.+-]+)=(?P<glob>.+)")
EXAMPLE = r"--path-pattern 'runs/(?P<variant>[^/]+)/seed(?P<seed>\d+)'"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedLog:
    """A file, whose run it is. `seed` is None where nobody said it."""

    path: Path
    variant: str
    seed: int | None


def named_logs(sources: Sequence[str], *, path_pattern: str | None) -> list[NamedLog]:
    """The files of all `GLOB` and `NAME=GLOB`, in the order of the sources and of their names.

    Args:
        path_pattern: an expression with the named groups `variant`, `seed` or both, searched for in
            each path, written with forward slashes.

    Raises:
        UserError: nothing matches, a file has two names, or a variant or seed cannot be told.
    """
    pattern = None if path_pattern is None else _path_pattern(path_pattern)
    found: dict[Path, NamedLog] = {}
    mistakes: list[str] = []
    for source in sources:
        for log in _of_source(source, pattern, mistakes):
            other = found.setdefault(log.path.resolve(), log)
            if other.variant != log.variant:
                mistakes.append(
                    f"{log.path} is in {other.variant!r} and in {log.variant!r}: "
                    "a run belongs to one variant"
                )
            elif other.seed != log.seed:
                mistakes.append(f"{other.path} and {log.path} are one file: name one seed for it")
    mistakes += _repeated(list(found.values()))
    seeded = {log.seed is not None for log in found.values()}
    if len(seeded) > 1:
        mistakes.append("some logs have a seed and some have none: name the seed of all or of none")
    if mistakes:
        more = [f"and {len(mistakes) - SHOWN} more"] if len(mistakes) > SHOWN else []
        raise UserError("\n  ".join(["--from-logs:", *mistakes[:SHOWN], *more]))
    return list(found.values())


def _of_source(
    source: str, pattern: re.Pattern[str] | None, mistakes: list[str]
) -> Iterator[NamedLog]:
    named = NAMED.fullmatch(source)
    variant = named["name"] if named else None
    groups = pattern.groupindex if pattern else {}
    if variant is None and "variant" not in groups:
        mistakes.append(f"{source!r} names no variant: write adamw={source}, or {EXAMPLE}")
        return
    if variant is not None and "variant" in groups:
        mistakes.append(
            f"{source!r} names a variant, and so does --path-pattern: leave one of them out"
        )
        return
    paths = files_of(named["glob"] if named else source)
    if not paths:
        mistakes.append(f"no file matches {source!r}: quote it, and write ** for any depth")
    for path in paths:
        match = pattern.search(path.as_posix()) if pattern else None
        if pattern is not None and match is None:
            mistakes.append(f"{path} does not match --path-pattern {pattern.pattern!r}")
            continue
        try:
            seed = int(match["seed"]) if match and "seed" in groups else None
        except (ValueError, TypeError):
            assert match is not None
            mistakes.append(f"{path}: the seed {match['seed']!r} is not a whole number")
            continue
        name = variant if variant is not None else match["variant"] if match else None
        if not name:
            mistakes.append(f"{path}: the variant is empty")
            continue
        yield NamedLog(path=path, variant=name, seed=seed)


def files_of(pattern: str) -> list[Path]:
    """The files that a glob matches, by name; a link that leads nowhere is one, and a mistake."""
    paths = map(Path, glob.glob(pattern, recursive=True))
    return sorted(path for path in paths if path.is_file() or not path.exists())


def _path_pattern(text: str) -> re.Pattern[str]:
    pattern = compiled_expression("--path-pattern", text)
    unknown = [name for name in pattern.groupindex if name not in PATH_GROUPS]
    if unknown or not pattern.groupindex:
        raise UserError(
            f"--path-pattern {text!r} must have the named groups variant, seed or both, has "
            f"{', '.join(pattern.groupindex) or 'none'}: such as {EXAMPLE}"
        )
    return pattern


def _repeated(logs: Sequence[NamedLog]) -> Iterator[str]:
    seen: dict[tuple[str, int], Path] = {}
    for log in logs:
        if log.seed is not None:
            first = seen.setdefault((log.variant, log.seed), log.path)
            if first != log.path:
                yield f"{first} and {log.path} are both {log.variant}, seed {log.seed}"
