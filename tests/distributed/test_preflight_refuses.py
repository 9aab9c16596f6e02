"""The preflight refuses a trial in which a library does something else than the study says."""

from __future__ import annotations

from typing import Any

import pytest

DDP, FSDP2 = "training.backend=ddp", "training.backend=fsdp2"
BF16 = "training.precision=bf16"


def zero(stage: int) -> str:
    return f"training.backend=deepspeed,training.zero_stage={stage}"


# What the library is made to do, see wrong_libraries.py; the trial; what the refusal says.
CASES = [
    ("every rank alone", f"adamw,{DDP}", "type: NO is found where the spec asks for MULTI_CPU"),
    ("deepspeed ignored", f"adamw,{zero(2)}", "type: MULTI_CPU is found where the spec asks for D"),
    # At stage 0 DeepSpeed itself fails with it.
    ("bf16 engine", f"muon,{zero(1)},{BF16}", "dtypes of the weights: ('bfloat16',) is found"),
    ("bf16 engine", f"muon,{zero(2)},{BF16}", "dtypes of the weights: ('bfloat16',) is found"),
    ("bf16 engine", f"muon,{zero(3)},{BF16}", "dtypes of the weights: ('bfloat16',) is found"),
    ("no autocast", f"adamw,{DDP},{BF16}", "dtype of matrix products: ('float32',) is found"),
    ("not wrapped", f"adamw,{DDP}", "what ddp put around the model: none is found"),
    ("compressed", f"adamw,{DDP}", "gradients on their way: ('fp16_compress_hook',) is found"),
    ("another copy", f"adamw,{DDP}", "'adamw_decay' did not move the model in the first step"),
    ("nothing sharded", f"adamw,{FSDP2}", "holds a part of the weights only: False is found"),
    ("reduced in bf16", f"adamw,{FSDP2}", "accumulated gradients: ('bfloat16',) is found"),
    ("optimizer first", f"adamw,{FSDP2}", "'adamw_decay' did not move the model in the first step"),
    ("another stage", f"adamw,{zero(2)}", "the ZeRO stage: 1 is found where the spec asks for 2"),
    ("safe modules", f"adamw,{zero(3)},{BF16}", "gradients on their way: ('bfloat16', 'float32')"),
    ("bf16 on its way", f"adamw,{zero(0)}", "gradients on their way: ('bfloat16', 'float32')"),
    ("stepping twice", f"muon,{DDP}", "48 matrices were orthogonalised in the first step"),
    ("same rows", f"adamw,{DDP}", "windows fed in steps 1 to 3 are not those"),
]


@pytest.fixture(scope="module")
def refusals(study_text: str, gangs: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All in one gang of two: a refusal leaves the worker ready for the next trial."""
    study = tmp_path_factory.mktemp("study") / "tiny.toml"
    study.write_text(study_text)
    trials = [{"request": text, "wrong": wrong} for wrong, text, _ in CASES]
    return gangs.train_in_order(study, trials, workers=2)


@pytest.mark.parametrize("case", range(len(CASES)), ids=[f"{c[0]}: {c[1]}" for c in CASES])
def test_a_library_that_does_something_else_is_refused(refusals: Any, case: int) -> None:
    assert CASES[case][2] in refusals[case]["refused"]
