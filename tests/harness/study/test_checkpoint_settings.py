"""Where the checkpoints of a trial go, as its workers are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from harness.study.placement import CheckpointSettings

OWN = Path("/runs/study/trials/0123/checkpoints")


@pytest.mark.parametrize(
    ("storage", "where"),
    [
        (None, "/runs/study/trials/0123/checkpoints"),
        ("s3://bucket/runs/", "s3://bucket/runs/study/0123"),
        ("/mnt/all/", "/mnt/all/study/0123"),
        ("kept", "HERE/kept/study/0123"),
        ("~/kept", "HOME/kept/study/0123"),
    ],
)
def test_a_worker_with_another_working_directory_or_home_finds_the_same_folder(
    storage: str | None, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    told = CheckpointSettings(storage=storage).for_workers(OWN, study=OWN.parents[2].name)
    expected = where.replace("HERE", str(tmp_path)).replace("HOME", str(tmp_path / "home"))
    assert told["checkpoints"] == expected


def test_a_key_in_the_address_of_the_storage_is_refused() -> None:
    with pytest.raises(ValidationError, match="there is a key or password in it"):
        CheckpointSettings(storage="s3://AKIA:secret@bucket/runs")
    assert CheckpointSettings(storage="hdfs://user@host:8020/runs").storage is not None
