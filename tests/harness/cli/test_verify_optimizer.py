"""The command `optbench verify-optimizer`: its answers to mistakes, and its lists."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.verification import CheckResult, assert_conforms
from harness.verification.suite import GangsFailed


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


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[CheckResult]:
    """The results of a suite that starts nothing."""
    results: list[CheckResult] = []
    monkeypatch.setattr("harness.verification.suite.results_of", lambda *_, **__: iter(results))
    return results


def test_a_check_that_is_applicable_nowhere_is_no_success(
    found: list[CheckResult], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found += [
        CheckResult("starts", "one process", "pass", 0.0, 0.0),
        CheckResult("resume_elsewhere", "one process", "not applicable", detail="needs workers"),
    ]
    assert run("lion", monkeypatch=monkeypatch) == 0
    assert run("lion", "--check", "resume_elsewhere", "--json", monkeypatch=monkeypatch) == 2
    out, error = capsys.readouterr()
    assert json.loads(out[out.index("{") :])["conforms"] is False
    assert "not checked, since applicable nowhere here: resume_elsewhere: needs workers" in error
    del found[0]
    with pytest.raises(AssertionError, match="nothing was run: needs workers"):
        assert_conforms(found)


def test_the_json_is_strict_and_holds_nothing_that_the_users_module_prints(
    found: list[CheckResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = "import torch\nprint('hello')\nclass Mine(torch.optim.SGD):\n    pass\n"
    (tmp_path / "noisy_module.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    found.append(CheckResult("starts", "one process", "fail", math.inf, 0.0))
    assert run("noisy_module:Mine", "--json", monkeypatch=monkeypatch) == 1
    values = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert values["results"][0]["figure"] is None


def test_the_end_of_the_process_that_starts_the_workers_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends(*_: object, **__: object) -> Iterator[CheckResult]:
        yield CheckResult("starts", "one process", "pass", 0.0, 0.0)
        raise GangsFailed("Killed")

    monkeypatch.setattr("harness.verification.suite.results_of", ends)
    assert run("lion", monkeypatch=monkeypatch) == 1
    error = capsys.readouterr().err
    assert "the process that starts the workers ended\nKilled" in error
    assert "Traceback" not in error
