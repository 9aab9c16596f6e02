"""An optimizer of somebody else's in a study file: its code is part of what a trial is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.study.load import load_study
from harness.study.notices import notices
from harness.study.plan import make_plan
from harness.study.study_file import Study, find_variant, frozen_study
from harness.study.trial import trial_spec, tuning_spec

MODULE = """
import torch
from optimizers.elementwise.base import ElementwiseOptimizer

class Signed(ElementwiseOptimizer):
    settings = {"power": 1.0}

    def _update_tensors(self, tensors, options):
        if not 0.0 <= options["power"] <= 2.0:
            raise ValueError("power must lie in [0, 2]")
        for weight, gradient in zip(tensors.weights, tensors.gradients):
            step = gradient.sign() * gradient.abs() ** options["power"]
            weight.sub_(step, alpha=options["lr"])
"""
LINES = """
[[variants]]
name = "mine"
optimizer = {{ kind = "external", path = "{path}", lr = 0.01{more} }}
{space}

[analysis]"""


@pytest.fixture
def write(
    study_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Path]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "signed_in_a_study.py").write_text(MODULE)

    def made(path: str = "signed_in_a_study:Signed", more: str = "", space: str = "") -> Path:
        text = study_text.replace("\n[analysis]", LINES.format(path=path, more=more, space=space))
        if space:
            text = text.replace("2]\n", "2]\ntuning = [9]\n\n[tuning]\ntrials = 4\n", 1)
            for name in ("adamw", "muon"):
                text = text.replace(
                    f'name = "{name}"\n',
                    f'name = "{name}"\nspace.lr = {{ kind = "uniform", low = 0.1, high = 1.0 }}\n',
                )
        file = tmp_path / "study.toml"
        file.write_text(text)
        return file

    yield made
    sys.modules.pop("signed_in_a_study", None)


def mistakes(file: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_study(file, overrides)
    return str(caught.value)


def key(study: Study) -> str:
    return trial_spec(study, find_variant(study, "mine"), 0, "0" * 64).key


def test_a_trial_is_another_one_when_the_code_changes(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    from optimizers.external import source, trying

    study = load_study(write())
    assert find_variant(study, "mine").optimizer.source.startswith("sha256:")  # type: ignore[attr-defined]
    assert key(load_study(write())) == key(study)
    plan = make_plan(study, "0" * 64)
    assert frozen_study(plan.study) == study
    (tmp_path / "signed_in_a_study.py").write_text(MODULE + "# changed\n")
    for cached in (source.source_of, trying._try_out):
        cached.cache_clear()
    assert key(load_study(write())) != key(study)


def test_a_frozen_plan_is_read_where_the_module_is_not(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    plan = make_plan(load_study(write()), "0" * 64)
    (tmp_path / "signed_in_a_study.py").unlink()
    program = (
        "import sys; from harness.study.plan import Plan; "
        "from harness.study.study_file import frozen_study; "
        "frozen_study(Plan.model_validate_json(sys.stdin.read()).study); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", program], input=plan.model_dump_json(), text=True, check=True
    )


def test_all_its_mistakes_are_told_with_their_path(write: Callable[..., Path]) -> None:
    assert "variants.mine.optimizer.settings.pover: unknown setting" in mistakes(
        write(more=", settings = { pover = 1.0 }")
    )
    assert "variants.mine.optimizer.path: torch.optim:LBFGS fails in its step" in mistakes(
        write("torch.optim:LBFGS")
    )
    assert "optimizer.path: 'no_colon' names no class: write it as package.module" in mistakes(
        write("no_colon")
    )
    for backend in ("fsdp2", "deepspeed"):
        text = mistakes(write("torch.optim:SGD"), f"training.backend={backend}")
        assert f"needs whole parameters, and training.backend is '{backend}'" in text
    study = load_study(write(), ["training.backend=fsdp2"])
    assert find_variant(study, "mine").optimizer.path.endswith("Signed")  # type: ignore[attr-defined]


@pytest.mark.parametrize("quoted", ['"settings.power"', "settings.power"])
def test_a_space_names_its_settings(write: Callable[..., Path], quoted: str) -> None:
    line = f'space.{quoted} = {{ kind = "uniform", low = 0.5, high = 1.5 }}'
    study = load_study(write(more=", settings = { power = 1.0 }", space=line))
    variant = find_variant(study, "mine")
    assert list(variant.space) == ["settings.power"]
    spec = tuning_spec(study, variant, {"settings.power": 0.75}, seed=9, data_sha256="0" * 64)
    assert spec.optimizer.settings == {"power": 0.75}  # type: ignore[attr-defined]
    assert spec.optimizer.source == variant.optimizer.source  # type: ignore[attr-defined]
    assert variant.optimizer.settings == {"power": 1.0}  # type: ignore[attr-defined]


def test_the_ends_of_a_space_are_tried(write: Callable[..., Path]) -> None:
    line = 'space.settings.power = { kind = "uniform", low = 0.5, high = 5.0 }'
    text = mistakes(write(space=line))
    assert "variants.mine.space.settings.power: at 5.0: path: " in text
    assert "power must lie in [0, 2]" in text
    other = write(space='space.path = { kind = "choice", values = ["a:b"] }')
    assert "space.path: unknown setting of this optimizer" in mistakes(other)


def test_what_is_not_saved_and_what_is_no_constant_rate_is_told(write: Callable[..., Path]) -> None:
    assert list(notices(load_study(write()))) == []
    (told,) = notices(load_study(write("pytorch_optimizer:MADGRAD")))
    assert "variants.mine: pytorch_optimizer:MADGRAD cannot go on from a checkpoint" in told
    free = "{kind='schedule_free', lr=0.01}"
    study = load_study(write(), [f"variants.muon.optimizer={free}"])
    (told,) = notices(study)
    assert told.startswith("variants.muon: schedule_free averages")
    constant = "variants.muon.schedule={kind='constant'}"
    assert not list(notices(load_study(write(), [f"variants.muon.optimizer={free}", constant])))
