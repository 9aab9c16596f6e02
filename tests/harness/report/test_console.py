"""What comes from outside is shown as it is: never markup, never a command to the terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import RenderableType
from rich.table import Table

from harness.analysis.study_analysis import analyse_study
from harness.cli.main import main
from harness.cli.run_study import conclude
from harness.report.terminal.attempts import render_attempts
from harness.report.terminal.console import PlainConsole, printable
from harness.report.terminal.status import render_status, status_values
from harness.report.terminal.study import render_study
from harness.runs.attempt_story import Attempt
from harness.runs.attempts import AttemptBegan, AttemptEnded, WorkerPlace
from harness.runs.folder import StudyFolder
from harness.runs.snapshot import load_snapshot
from harness.tracking.tracker import Tracker, TrackingUnavailable

Write = Callable[..., StudyFolder]
COMMANDS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
MARKUP = ("[/data]", "[bold]", ":smile:", "[link=x]")
PIECES = (*MARKUP, "\x1b[31m", "\x07", "\x9b2J", "\u202e")
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=6).map("".join)
AT = "2026-01-02T03:04:05+00:00"


def shown(*renderables: RenderableType, terminal: bool = False) -> str:
    file = io.StringIO()
    console = PlainConsole(file=file, width=400, force_terminal=terminal, color_system=None)
    for renderable in renderables:
        console.print(renderable, soft_wrap=True)
    return file.getvalue()


@given(text=texts)
@settings(max_examples=150, deadline=None)
def test_any_text_is_shown_and_commands_nothing(text: str) -> None:
    table = Table(text, title=text)
    table.add_row(text)
    out = shown(text, table)
    assert not COMMANDS.search(out)
    out.encode()


@pytest.mark.parametrize("text", MARKUP)
def test_what_looks_like_markup_is_shown_whole(text: str) -> None:
    table = Table(text, title=text)
    table.add_row(text)
    assert shown(text, table).count(text) == 4


def test_control_codes_have_a_sign() -> None:
    assert printable("a\x1b[2J\x9b\x7f\u202e\ud800\n") == "a␛[2J����\n"


@given(text=texts)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_study_whose_texts_are_hostile_is_shown(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from made_up import MadeUpStudy

    made = MadeUpStudy(
        seeds=(0, 1, 2), every=60, question=text.replace("\ud800", ""), failed={("muon", 1): text}
    )
    folder = made.write(tmp_path_factory.mktemp("runs"))
    results = analyse_study(folder)
    status = status_values(load_snapshot(folder))
    place = WorkerPlace(rank=0, host=text, address=text, node="n", pid=1, device=text)
    began = AttemptBegan(
        attempt=1, at=AT, workers=1, cpus_per_worker=1, gpus_per_worker=0, places=(place,)
    )
    ended = AttemptEnded(attempt=1, at=AT, end="error", cause=text, log_tails={0: text})
    attempt = Attempt(number=1, began=began, ended=ended)
    attempts = render_attempts(text, results.trials[0], [attempt])
    out = shown(render_study(results), render_status(status), attempts)
    assert not COMMANDS.search(out)


def test_a_tracking_server_and_a_folder_with_brackets_do_not_end_a_study(
    made_up_study: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def down(*_: object) -> None:
        raise TrackingUnavailable("no [/data] at \x1b[31mserver")

    monkeypatch.setattr(Tracker, "sync", down)
    folder = made_up_study(seeds=(0, 1, 2))
    (tmp_path / "[bold]x[").mkdir()
    moved = StudyFolder(folder.path.rename(tmp_path / "[bold]x[" / "y]"))
    file = io.StringIO()
    conclude(moved, PlainConsole(file=file, width=400), None)
    assert "no [/data] at ␛[31mserver" in file.getvalue()
    assert "[bold]x[/y]/report/index.html" in file.getvalue()


def test_an_error_names_a_path_without_obeying_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["optbench", "status", "[/x]\x1b[31m"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "[/x]␛[31m" in capsys.readouterr().err
