"""Puts the results of a finished study beside its file: table, verdicts, CSV and figures.

    optbench run studies/muon-ablation.toml
    python studies/publish.py muon-ablation

What stands between the two markers of studies/STUDY/README.md (--page for another) is replaced by
the verdicts and the table of results of the report; nothing in it is written by hand. Of a suite,
runs.csv has the runs of all tasks, for `optbench suite score`.
"""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

HERE = Path(__file__).parent
BEGIN, END = "<!-- from the report: begin -->", "<!-- from the report: end -->"
USUAL = ("Verdict", "Variants, best first")
FIGURES = (
    *("forest", "panels", "loss_curves", "sensitivity", "heatmap", "tuning_curves"),
    "decomposition",
    *("leaderboard", "verdicts", "profiles", "ranks"),  # of a suite
    *("speedup_by_size", "speedup_by_length", "hyperparameters"),
)
VERDICT_FIGURES = ("forest",)


def sections(report: str, titles: Sequence[str]) -> str:
    """The sections of report.md with these titles, in this order, without figures."""
    found: dict[str, list[str]] = {}
    title = ""
    for line in report.splitlines():
        if line.startswith("#"):
            title = line.lstrip("# ")
        elif not line.startswith(("![", "*", "<")):
            found.setdefault(title, []).append(line)
    if missing := [title for title in titles if title not in found]:
        raise SystemExit(f"the report has no section {missing}; it has {list(found)}")
    wanted = [f"### {title}\n\n" + "\n".join(found[title]).strip() for title in titles]
    return re.sub(r"\n{3,}", "\n\n", "\n\n".join(wanted))


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_runs_of_tasks(suite: Path, target: Path) -> None:
    """The runs of all tasks of a suite in its order, each with its task; of a study, none."""
    tasks = dict.fromkeys(row.get("task") for row in rows_of(suite / "report" / "results.csv"))
    runs = [
        {"task": task, **row}
        for task in tasks
        if task
        for row in rows_of(suite / "tasks" / task / "report" / "results.csv")
    ]
    if runs:
        with target.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(runs[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(runs)


def main(
    study: Annotated[str, typer.Argument(help="name of a study under studies/")],
    runs_dir: Annotated[Path, typer.Option(help="where its results are")] = Path("runs"),
    into: Annotated[
        str | None, typer.Option(help="folder under studies/, default: its name")
    ] = None,
    page: Annotated[str, typer.Option(help="its page with the two markers")] = "README.md",
    table: Annotated[
        list[str] | None, typer.Option(help="title of a section of the report to copy; repeat it")
    ] = None,
    prefix: Annotated[str, typer.Option(help="before the names of the copied files")] = "",
    only_verdicts: Annotated[
        bool, typer.Option(help="of studies/decide_again.py: the table stays as it is")
    ] = False,
    only_runs: Annotated[bool, typer.Option(help="of a suite: nothing but runs.csv")] = False,
) -> None:
    source, target = runs_dir / study / "report", HERE / (into or study)
    if not only_verdicts:
        write_runs_of_tasks(source.parent, target / f"{prefix}runs.csv")
    if only_runs:
        return
    readme = target / page
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    results = sections((source / "report.md").read_text(encoding="utf-8"), table or USUAL)
    readme.write_text(f"{before}{BEGIN}\n\n{results}\n\n{END}{after}", encoding="utf-8")
    if not only_verdicts:
        shutil.copy(source / "results.csv", target / f"{prefix}results.csv")
    for name in VERDICT_FIGURES if only_verdicts else FIGURES:
        if (source / f"{name}.png").exists():
            shutil.copy(source / f"{name}.png", target / f"{prefix}{name}.png")
    print(f"written: {readme}")


if __name__ == "__main__":
    typer.run(main)
