"""Every command of the pages is run here, or something else runs it and is named here.

The commands run as the pages have them, in this process, in a reader's folder whose quickstart is a
very small study.
"""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import app
from harness.cli.main import main

ROOT = Path(__file__).parents[2]

TEAM = "tests/support/team_on_hosts.py"  # of `make cluster-test`

# What runs a command that is not run here: a file of the repository, or else what it needs.
ELSEWHERE = {
    r"make test$": ".ci/run",
    r"make docs$": "tests/test_docs.py",
    r"optbench run studies/quickstart.toml --address auto": TEAM,
    r"(ray (get-auth-token|start)|export RAY_AUTH_MODE|export MLFLOW_(TRACK|AUTH))": TEAM,
    r"mlflow server --app-name basic-auth": TEAM,
    r"python -c \"from mlflow.server import get_app_client": TEAM,
    r"optbench doctor --address ": "tests/tune/test_nodes.py",
    r"(make suite$|optbench \w+ suite-quickstart)": "tests/harness/cli/test_run_suite.py",
    r"(make quickstart$|optbench (run (?!of-others)|report ))": "tests/harness/cli/test_run.py",
    r"optbench sync ": "tests/harness/tracking/test_sync_command.py",
    r"optbench ui$": "tests/harness/tracking/test_tracker.py",
    r"optbench calibrate (--seed 0 --figure|--noise) ": (
        "tests/harness/analysis/calibration/test_calibrate.py"
    ),
    r"optbench compare (--from-logs|read\.csv)": "tests/docs/test_logs_page.py",
    r"optbench suite score ": "tests/harness/analysis/suite/test_from_table.py",
    r"optbench suite calibrate": "tests/harness/analysis/calibration/test_suites.py",
    r"optbench run of-others\.toml": "tests/docs/test_optimizer_of_others.py",
    r"optbench .*studies/(tiger|look-back|notes)\.toml": "tests/docs/test_newcomer.py",
    r"optbench verify-optimizer (tiger|broken)": "tests/docs/test_newcomer.py",
    r"python (make_notes\.py|-m pytest .*test_registry\.py)$": "tests/docs/test_newcomer.py",
    r"torchrun .*-m harness trial ": "tests/distributed/test_workers_agree.py",
    r"(mlflow server|export MLFLOW_)": "tests/docker/test_cluster_files.py",
    r"python benchmarks/": "Makefile",
    r"optbench trial .*gpus_per_worker=1": "needs a GPU: by hand",
    r"make faults": "needs half an hour: by hand",
    r"make cluster-test": "needs root: by hand",
    r"docker (compose|build) ": "needs Docker: by hand",
    r"(\(umask 077|for name in POSTGRES_|echo \"\$name=)": "needs Docker: by hand",
    r"done > docker/\.env": "needs Docker: by hand",
    r"sbatch ": "needs Slurm: by hand",
    r"kubectl ": "needs Kubernetes: by hand",
}

# Less of the same work.
SHORTER = {
    "python docs/figures/simultaneous_intervals.py": "--studies 200 --output simultaneous.png",
    "python docs/figures/leakage.py": "--max-documents 60 --vocab-size 320",
}

# What these print stands word for word on every page that has them.
SHOWN = {"optbench calibrate --winners-curse --seed 0"}


def who_runs(text: str) -> str | None:
    """Who else runs a command; None when it is run here."""
    return next((by for form, by in ELSEWHERE.items() if re.match(form, text)), None)


def test_the_command_works(
    command: Any,
    at_the_desk: Path,
    blocks_of: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runner = who_runs(command.text)
    if runner is not None:
        assert runner.startswith("needs ") or (ROOT / runner).exists()
        the_options_exist(command.text)
        return
    text = f"{command.text} {SHORTER.get(command.text, '')}"
    words, _, target = (part.strip() for part in text.partition(" > "))
    program, *arguments = shlex.split(words)
    if program == "python":
        program, *arguments = [str(ROOT / arguments[0]), *arguments[1:]]
    monkeypatch.setattr("sys.argv", [program, *arguments])
    if program == "optbench":
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code, capsys.readouterr().err
    else:
        runpy.run_path(program, run_name="__main__")
    printed = capsys.readouterr().out
    assert printed
    if target:
        (at_the_desk / target).write_text(printed)
    if command.text in SHOWN:
        for page in command.pages:
            assert printed in [block.text for block in blocks_of(page)], page


def the_options_exist(text: str) -> None:
    """Parses a command of ours without running it."""
    words = shlex.split(text)
    if words[0] == "torchrun":
        words = words[words.index("harness") :]
    if words[0] not in ("optbench", "harness"):
        return
    import typer

    group: Any = typer.main.get_command(app)
    with group.make_context("optbench", words[1:], resilient_parsing=True) as context:
        name, subcommand, rest = group.resolve_command(context, words[1:])
        subcommand.make_context(name, rest, parent=context).close()


def test_commands_inside_sentences_exist(pages: list[Path]) -> None:
    known = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    known |= {group.name or group.typer_instance.info.name for group in app.registered_groups}
    said = {
        word
        for page in pages
        for word in re.findall(r"`optbench ([a-z][a-z-]*)[^`]*`", page.read_text(encoding="utf-8"))
    }
    assert said <= known


def test_every_entry_of_the_list_stands_for_a_command_of_a_page(commands_of_all_pages: Any) -> None:
    texts = [command.text for command in commands_of_all_pages]
    assert not [form for form in ELSEWHERE if not any(re.match(form, text) for text in texts)]
    assert set(SHORTER) | SHOWN <= set(texts)
