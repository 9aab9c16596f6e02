"""From an import path to a class, and to the name of the code that it is."""

from __future__ import annotations

import ast
import hashlib
import importlib
import os
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from types import ModuleType

HASH_DIGITS = 16
INSTALL = {"pytorch_optimizer": "optbench[external]"}


def load_class(path: str) -> type:
    """The class that `package.module:ClassName` names.

    A module that is nowhere else is looked for in the current directory, where Ray's workers look
    too.

    Raises:
        ValueError: The module cannot be imported here, or has no such class.
    """
    module_name, _, name = path.partition(":")
    found = getattr(load_module(module_name), name, None)
    if not isinstance(found, type):
        raise ValueError(f"path: {module_name} has no class {name}: check the name in {path!r}")
    return found


def load_module(name: str) -> ModuleType:
    top = name.partition(".")[0]
    for here in (False, True):
        if here:
            sys.path.append(os.getcwd())
            importlib.invalidate_caches()
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name == top and not here and os.getcwd() not in sys.path:
                continue
            advice = f"pip install {INSTALL.get(top, f'the package of {top}')}"
            raise ValueError(
                f"path: cannot import {name} ({error}): {advice} on every host that trains, or "
                f"start in the folder that holds the file ({os.getcwd()} is searched)"
            ) from None
        except Exception as error:
            raise ValueError(
                f"path: importing {name} fails with {type(error).__name__}: {error}"
            ) from error
    raise AssertionError("one of the two tries returns or raises")


@cache
def source_of(module_name: str) -> str:
    """`pytorch_optimizer 4.1.0`, or `sha256:...` of the files of a module that is not installed.

    Of a package these are all its Python files; of a single file, it and the files beside it that
    it imports, and those that they do. Looked at once: what was imported then is what runs.

    Raises:
        ValueError: The module has no file, so that nobody could say which code it is.
    """
    module = load_module(module_name)
    top = module_name.partition(".")[0]
    if getattr(module, "__file__", None) is None:
        raise ValueError(f"path: {module_name} has no file of its own: name a module in a file")
    file = Path(str(module.__file__)).resolve()
    return _installed(top, file) or _hash(file, depth=len(module_name.split(".")))


def _installed(top: str, file: Path) -> str | None:
    """The distribution that the file was installed by; not one that only points at a folder."""
    for name in packages_distributions().get(top, ()):
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        site = Path(str(found.locate_file(""))).resolve()
        if file.is_relative_to(site) and (site.name.endswith("-packages")):
            return f"{name} {found.version.partition('+')[0]}"  # a build for CPU or CUDA is no code
    return None


def _hash(file: Path, *, depth: int) -> str:
    is_package = file.name == "__init__.py"
    levels = depth if is_package else depth - 1
    root = file.parents[levels - 1] if levels else file.parent
    files = sorted(root.rglob("*.py")) if levels else sorted(_with_neighbours(file))
    hasher = hashlib.sha256()
    for each in files:
        hasher.update(f"{each.relative_to(root).as_posix()}\0".encode())
        hasher.update(each.read_bytes())
        hasher.update(b"\0")
    return f"sha256:{hasher.hexdigest()[:HASH_DIGITS]}"


def _with_neighbours(file: Path) -> set[Path]:
    """The file and what it imports from its own folder, and so on."""
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        here = waiting.pop()
        if here in found:
            continue
        found.add(here)
        for name in _imports(here):
            single, package = file.parent / f"{name}.py", file.parent / name
            if single.is_file():
                waiting.append(single)
            elif (package / "__init__.py").is_file():
                waiting.extend(package.rglob("*.py"))
    return found


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
