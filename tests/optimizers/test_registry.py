from typing import get_args

import pytest
import torch
from torch.nn import Parameter

from optimizers import REGISTRY, AdamWSpec, MuonSpec, OptimizerSpec, build_optimizer

NEEDS = {"external": {"path": "torch.optim:AdamW"}}


@pytest.mark.parametrize("kind", REGISTRY)
def test_every_specification_is_frozen_names_its_kind_and_describes_its_fields(kind: str) -> None:
    entry = REGISTRY[kind]
    spec = entry.spec(lr=0.1, **NEEDS.get(kind, {}))
    assert issubclass(entry.spec, OptimizerSpec)
    assert get_args(entry.spec.model_fields["kind"].annotation) == (kind,)
    assert all(f.description for name, f in entry.spec.model_fields.items() if name != "kind")
    with pytest.raises(ValueError, match="frozen"):
        spec.lr = 0.2
    assert entry.spec.model_validate_json(spec.model_dump_json()) == spec


# DeepSpeed's engine steps its own Muon; tests/distributed trains with it.
@pytest.mark.parametrize("kind", [kind for kind in REGISTRY if kind != "deepspeed_muon"])
def test_every_optimizer_trains_a_small_model(kind: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 12), torch.nn.Tanh(), torch.nn.Linear(12, 6))
    inputs = torch.randn(64, 6)
    optimizer = build_optimizer(
        REGISTRY[kind].spec(lr=0.02, **NEEDS.get(kind, {})), model.named_parameters()
    )
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (model(inputs) - inputs).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("kind", REGISTRY)
def test_every_parameter_is_in_exactly_one_group(kind: str) -> None:
    named = [("w", Parameter(torch.ones(3, 4))), ("b", Parameter(torch.ones(3)))]
    frozen = ("frozen", Parameter(torch.ones(3, 4), requires_grad=False))
    optimizer = build_optimizer(
        REGISTRY[kind].spec(lr=0.1, **NEEDS.get(kind, {})), [*named, frozen]
    )
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for _, p in named)


def test_an_optimizer_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameter requires a gradient"):
        build_optimizer(MuonSpec(lr=0.1), [])


def test_an_unregistered_specification_is_refused() -> None:
    class Sgd(AdamWSpec):
        kind: str = "sgd"

    with pytest.raises(ValueError, match="unknown optimizer kind 'sgd': choose adamw, muon"):
        build_optimizer(Sgd(lr=0.1), [("w", Parameter(torch.ones(3, 4)))])
