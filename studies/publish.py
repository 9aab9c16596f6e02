"""Puts the results of a finished study beside its file: table, verdicts, CSV and figures.

    optbench run studies/muon-ablation.toml
    python studies/publish.py muon-ablation

What stands between the two markers of studies/STUDY/README.md is replaced by the verdicts and the
table of results of the report; nothing in it is written by hand.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

HERE = Path(__file__).parent
BEGIN, END = "<!-- from the report: begin -->", "<!-- from the report: end -->"
FIGURES = ("forest", "panels", "loss_curves", "sensitivity", "heatmap", "tuning_curves")


def sections(report: str) -> str:
    """Verdicts and results of report.md, without the figures between them."""
    begin, end = report.index("## Verdict"), report.index("## Training curves")
    wanted = report[begin:end].replace("## Verdict", "## What came out").replace("\n## ", "\n### ")
    lines = [line for line in wanted.splitlines() if not line.startswith(("![", "*"))]
    return "\n".join(lines).strip()


def main(
    study: Annotated[str, typer.Argument(help="name of a study under studies/")],
    runs_dir: Annotated[Path, typer.Option(help="where its results are")] = Path("runs"),
    into: Annotated[
        str | None, typer.Option(help="folder under studies/, default: its name")
    ] = None,
    prefix: Annotated[str, typer.Option(help="before the names of the copied files")] = "",
) -> None:
    source, target = runs_dir / study / "report", HERE / (into or study)
    readme = target / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    table = sections((source / "report.md").read_text(encoding="utf-8"))
    readme.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")
    shutil.copy(source / "results.csv", target / f"{prefix}results.csv")
    for name in FIGURES:
        if (source / f"{name}.png").exists():
            shutil.copy(source / f"{name}.png", target / f"{prefix}{name}.png")
    print(f"written: {readme}")


if __name__ == "__main__":
    typer.run(main)
