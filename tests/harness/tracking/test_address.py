"""What can never be written is refused before anything starts, and no password is shown."""

from __future__ import annotations

import sys

import pytest

from harness.cli.main import main
from harness.errors import UserError
from harness.runs.folder import StudyFolder
from harness.tracking.address import check_address, without_password
from harness.tracking.tracker import Tracker, TrackingUnavailable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://mlflow.example.org:5000", "https://mlflow.example.org:5000"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("https://ann:sesame@mlflow.example.org", "https://***@mlflow.example.org"),
        ("https://ann:ses@me/1@host/path", "https://***@host/path"),
        ("failed: 'http://ann:sesame@host/api' gave 401", "failed: 'http://***@host/api' gave 401"),
        (
            "postgresql://host/db?user=ann&password=sesame",
            "postgresql://host/db?user=ann&password=***",
        ),
    ],
)
def test_an_address_is_shown_without_its_password(text: str, shown: str) -> None:
    assert without_password(text) == shown


def test_a_password_is_hidden_wherever_it_stands() -> None:
    uri = "postgresql://ann:open%20sesame@host/db"
    assert without_password("no user 'open sesame' here", uri) == "no user '***' here"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("mysql+nodriver://ann:sesame@host/db", "nodriver"),
        ("http://ann:sesame@127.0.0.1:9", "nothing answers there"),
        ("nonsense://ann:sesame@host", "unsupported URI"),
        ("http://[ann:sesame@host", "Invalid"),
    ],
)
def test_an_address_that_leads_nowhere_is_a_message_without_its_password(
    uri: str, reason: str, made_up_study: object
) -> None:
    folder: StudyFolder = made_up_study(seeds=(0,), steps=20)  # type: ignore[operator]
    with pytest.raises(TrackingUnavailable, match=reason) as refused:
        Tracker(folder, uri).sync()
    assert "sesame" not in str(refused.value)
    kept = [path.read_text() for path in folder.path.rglob("*.json*")]
    assert not any("sesame" in text for text in kept)


@pytest.mark.parametrize(
    "uri",
    [
        "http://mlflow:5000",
        "https://ann:sesame@mlflow.example.org/team",
        "sqlite:////srv/mlflow.db",
        "postgresql://mlflow@db/mlflow",
        "databricks",
    ],
)
def test_what_mlflow_can_write_passes(uri: str) -> None:
    check_address(uri)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("postgres://ann:sesame@db/x", "'postgres://\\*\\*\\*@db/x' is none that MLflow can write"),
        ("mlflow.example.org:5000", "use a server"),
        ("file:///srv/mlruns", "none that MLflow can write"),
        ("/srv/mlruns", "none that MLflow can write"),
        ("http:/mlflow:5000", "names no server: write http://HOST:PORT"),
        ("http://mlflow:five", "names no server"),
        ("http://[ann:sesame@host", "names no server"),
        ("mysql+nodriver://ann:sesame@host/db", "nodriver"),
    ],
)
def test_what_it_cannot_write_is_refused(uri: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        check_address(uri)
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize("command", ["run", "report", "sync"])
def test_a_missing_driver_ends_every_command_before_it_starts(
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as Python has it where it is not installed
    uri = "postgresql://ann:sesame@db/mlflow"
    monkeypatch.setattr("sys.argv", ["optbench", command, "no such study", "--tracking-uri", uri])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "error: the tracking address 'postgresql://***@db/mlflow' needs the driver psycopg, which "
        "is not installed here: pip install 'optbench[cluster]'\n"
    )
