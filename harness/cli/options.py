"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.errors import UserError

StudyArgument = Annotated[
    Path, typer.Argument(metavar="STUDY", help="a study file, such as studies/quickstart.toml")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="override one value of the study, e.g. --set training.steps=200 or "
        "--set variants.muon.optimizer.lr=0.01; may be repeated",
    ),
]
RunsDirOption = Annotated[
    Path, typer.Option("--runs-dir", help="folder of all studies' results", envvar="OPTBENCH_RUNS")
]
AmendOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHY",
        help="replace the frozen plan of this study by the changed one; the reason is reported. "
        "Seeds, variants and horizons that are only added need none",
    ),
]


def _checked_address(tracking_uri: str | None) -> str | None:
    """While the command line is read, and so before anything starts."""
    if tracking_uri:
        from harness.tracking.address import check_address

        check_address(tracking_uri)
    return tracking_uri


TrackingUriOption = Annotated[
    str | None,
    typer.Option(
        envvar="MLFLOW_TRACKING_URI",
        callback=_checked_address,
        help="an MLflow server or database; default: sqlite in the runs folder",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON for a script to read")]
DEFAULT_RUNS_DIR = Path("runs")

Pairing = Literal["auto", "paired", "unpaired"]
PairingOption = Annotated[
    Pairing, typer.Option(help="auto: paired exactly when the hash columns certify it")
]
PairedOption = Annotated[bool, typer.Option("--paired", help="same as --pairing paired")]
UnpairedOption = Annotated[bool, typer.Option("--unpaired", help="same as --pairing unpaired")]
MarginOption = Annotated[
    float | None, typer.Option(help="smallest difference that matters, in the unit of the values")
]


def pairing_of(pairing: Pairing, *, paired: bool, unpaired: bool) -> Pairing:
    """What the three options say together.

    Raises:
        UserError: they contradict each other.
    """
    short: Pairing = "paired" if paired else "unpaired" if unpaired else pairing
    if (paired and unpaired) or pairing not in ("auto", short):
        raise UserError(
            "--pairing, --paired and --unpaired contradict each other: give one of them"
        )
    return short


UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> float:
    """Of a time such as `90m`, `8h` or `2d`; a bare number is seconds.

    Raises:
        UserError: it is not such a time, or not a positive one.
    """
    number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS else (text, "s")
    try:
        value = float(number) * UNITS[unit]
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise UserError(f"--time-budget {text!r}: give a number and a unit: 30s, 90m, 8h or 2d")
    return value
