"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
        help="replace the frozen plan of this study by the changed one; the reason is reported",
    ),
]
TrackingUriOption = Annotated[
    str | None,
    typer.Option(
        envvar="MLFLOW_TRACKING_URI", help="an MLflow server; default: sqlite in the runs folder"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON for a script to read")]
DEFAULT_RUNS_DIR = Path("runs")
