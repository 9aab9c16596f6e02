"""The elementwise optimizers under every backend: two workers train as one process does."""

from __future__ import annotations

from typing import Any

import pytest

from optimizers import REGISTRY

pytestmark = [pytest.mark.faults, pytest.mark.distributed]  # half a minute

OURS = [k for k, entry in REGISTRY.items() if entry.module.startswith("optimizers.elementwise.")]
VARIANTS = {
    **{kind: f'kind = "{kind}", lr = 0.002' for kind in OURS},
    "cautious": 'kind = "adamw", lr = 0.002, cautious = true',
}
BACKENDS = {
    "ddp": "training.backend=ddp",
    "fsdp2": "training.backend=fsdp2",
    **{f"zero{n}": f"training.backend=deepspeed,training.zero_stage={n}" for n in range(4)},
}
CASES = [(variant, backend) for variant in VARIANTS for backend in BACKENDS]


@pytest.fixture(scope="module")
def runs(study_text: str, gangs: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Workers -> (variant, backend) -> reports and outcome."""
    study = tmp_path_factory.mktemp("study") / "tiny.toml"
    added = [
        f'[[variants]]\nname = "{name}-"\noptimizer = {{ {table} }}\n'
        for name, table in VARIANTS.items()
    ]
    study.write_text(study_text.replace("[analysis]", "\n".join([*added, "[analysis]"])))

    def train(cases: list[tuple[str, str]], workers: int) -> dict[tuple[str, str], Any]:
        trials = [{"request": f"{name}-,{BACKENDS[backend]}"} for name, backend in cases]
        return dict(zip(cases, gangs.train_in_order(study, trials, workers=workers), strict=True))

    return {1: train([(name, "ddp") for name in VARIANTS], 1), 2: train(CASES, 2)}


@pytest.mark.parametrize(("variant", "backend"), CASES)
def test_two_workers_of_every_backend_train_as_one_process(
    runs: Any, variant: str, backend: str
) -> None:
    one, two = runs[1][variant, "ddp"], runs[2][variant, backend]
    assert two["outcome"]["outcome"] == "completed"
    # Rounding alone, which the single precision of the losses mostly hides: 0 measured.
    for left, right in zip(one["reports"], two["reports"], strict=True):
        assert right["validation_loss"] == pytest.approx(left["validation_loss"], rel=1e-5)
    assert two["reports"][-1]["validation_loss"] < two["reports"][0]["validation_loss"]
