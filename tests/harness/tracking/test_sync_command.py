"""`optbench sync`: what MLflow lacks of a study, once each."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from harness.cli.main import main
from harness.runs.folder import StudyFolder

Write = Callable[..., StudyFolder]


def test_what_is_missing_is_sent_and_then_nothing(
    made_up_study: Write,
    stored: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = made_up_study(seeds=(0, 1), steps=20)
    words = ["sync", folder.path.name, "--runs-dir", str(folder.path.parent)]

    def sync(*more: str) -> str:
        monkeypatch.setattr("sys.argv", ["optbench", *words, *more])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code, capsys.readouterr().err
        return capsys.readouterr().out

    first = json.loads(sync("--json"))
    assert first["new_runs"] == 1 + 2 + 4
    assert first["new_points"] == len(stored.points())
    assert json.loads(sync("--json")) | {"tracking_uri": ""} == {
        "tracking_uri": "",
        "new_runs": 0,
        "new_points": 0,
    }
    assert "0 new runs, 0 new points" in sync()


def test_a_server_that_is_away_is_one_line_and_exit_code_1(
    made_up_study: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    folder = made_up_study(seeds=(0,), steps=20)
    words = ["sync", folder.path.name, "--runs-dir", str(folder.path.parent)]
    uri = "http://ann:sesame@127.0.0.1:9"
    monkeypatch.setattr("sys.argv", ["optbench", *words, "--tracking-uri", uri])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    assert capsys.readouterr().err == (
        "error: MLflow is not up to date: http://***@127.0.0.1:9: nothing answers there "
        "(connection refused)\n"
    )
