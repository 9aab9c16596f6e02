"""The command `optbench verify-optimizer`: its answers to mistakes, and its lists."""

from __future__ import annotations

import json

import pytest

from harness.cli.main import main


def run(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["optbench", "verify-optimizer", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no optimizer is named"),
        (("mun",), "did you mean 'muon'?"),
        (("deepspeed_muon",), "DeepSpeed steps its own Muon"),
        (("lion", "--set", "beta=0.9"), "did you mean 'beta"),
        (("lion", "--set", "beta1"), "give NAME=VALUE"),
        (("lion", "--set", "beta1=2"), "less than 1"),
        (("lion", "--check", "resumes"), "choose among starts"),
        (("lion", "--backend", "zero4"), "choose among ddp, zero0"),
        (("lion", "--workers", "3"), "choose among 1, 2, 4"),
        (("no_such_module:Tiger",), "cannot import no_such_module"),
        (("torch.optim:Sgd",), "has no class Sgd"),
        (("torch.nn:Linear",), "is no optimizer"),
        (("torch.optim:SGD", "--set", "speed=2"), "speed"),
    ],
)
def test_a_mistake_is_one_line_before_anything_starts(
    arguments: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(*arguments, monkeypatch=monkeypatch) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error


def test_the_list_says_what_each_check_does_and_what_a_failure_means(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.verification import CHECKS

    assert run("--list", "--json", monkeypatch=monkeypatch) == 0
    listed = json.loads(capsys.readouterr().out)
    assert list(listed) == list(CHECKS)
    assert all(entry["does"] and entry["failure_means"] for entry in listed.values())
