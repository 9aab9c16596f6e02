"""No password of an address is shown."""

from __future__ import annotations

import pytest

from harness.runs.folder import StudyFolder
from harness.tracking.address import without_password
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
