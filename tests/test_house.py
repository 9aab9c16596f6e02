"""The house: nine rooms under `harness/`, every module on a floor and under a contract."""

from __future__ import annotations

import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("harness", "models", "optimizers", "tune")
ROOMS = {
    *("analysis", "cli", "data", "report", "runs", "study", "tracking", "training"),
    "verification",
}


def rooms(folder: Path) -> set[str]:
    """Names of the folders in which there is code."""
    return {path.name for path in folder.iterdir() if any(path.glob("**/*.py"))}


def floors() -> list[str]:
    """The modules that the contract of the floors names, from the top down."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return [name for layer in layers for name in layer.split(" | ")]


def modules() -> list[str]:
    """Every module of ours but the bare packages, which hold nothing."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    dotted = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return [name for name in dotted if name != "harness.__init__"]


def test_harness_holds_the_nine_rooms_and_the_errors() -> None:
    files = {path.name for path in (ROOT / "harness").iterdir() if path.is_file()}
    assert rooms(ROOT / "harness") == ROOMS
    assert files == {"__init__.py", "__main__.py", "errors.py"}


@pytest.mark.parametrize("module", modules())
def test_every_module_is_named_by_the_contract_of_the_floors(module: str) -> None:
    assert any(module == floor or module.startswith(f"{floor}.") for floor in floors())


def test_the_tests_mirror_the_rooms() -> None:
    assert rooms(ROOT / "tests" / "harness") == ROOMS


def test_the_command_is_installed() -> None:
    (command,) = entry_points(group="console_scripts", name="optbench")
    assert callable(command.load())
