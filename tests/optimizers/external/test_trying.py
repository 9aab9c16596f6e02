"""What an optimizer of somebody else's cannot do is said before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from optimizers import ExternalSpec, build_optimizer
from optimizers.external.source import source_of
from optimizers.external.trying import try_out

Module = Callable[..., str]

HEAD = "import torch\nfrom torch.optim import Optimizer\n"
HIDDEN = (
    HEAD
    + """
class Hidden(Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})
        self.mean = {}

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                mean = self.mean.setdefault(p, torch.zeros_like(p))
                mean.lerp_(p.grad, 0.1)
                p.sub_(mean, alpha=group["lr"])
"""
)
WHOLE = """
from typing import Literal
from optimizers import NamedOptimizer, OptimizerSpec, Route
from optimizers.elementwise.base import elementwise_options

class MySpec(OptimizerSpec):
    kind: Literal["mine"] = "mine"
    power: float = 1.0

class Mine(NamedOptimizer):
    spec = MySpec
    state_keys = {"mine": ()}

    def _update_group(self, group, fragments):
        for fragment in fragments:
            gradient = fragment.gradient()
            if gradient is not None:
                step = gradient.sign() * gradient.abs() ** group["power"]
                fragment.weight().sub_(step, alpha=group["lr"])

class WithoutASpec(Mine):
    spec = None

def route(spec, named_shapes):
    return [Route(name, shape, "mine", "all", "it is mine") for name, shape in named_shapes]

def build(spec, named_parameters, *, routes):
    options = {"all": {"lr": spec.lr, "power": spec.power}}
    return Mine(named_parameters, routes=routes, options=options)
"""


def refusal(path: str, lr: float = 0.01, **settings: Any) -> str:
    with pytest.raises(ValueError, match=r"^(path|settings)") as caught:
        try_out(ExternalSpec(path=path, lr=lr, settings=settings))
    return str(caught.value)


def test_a_file_in_the_current_directory_needs_an_update_and_its_settings(
    module: Module, toy: Any
) -> None:
    path = f"{module()}:SignMomentum"
    found = try_out(ExternalSpec(path=path, lr=0.01))
    assert found.not_resumable is None
    assert not found.needs_whole_parameters
    assert found.source.startswith("sha256:")
    optimizer = build_optimizer(
        ExternalSpec(path=path, lr=0.01, settings={"beta": 0.8}), toy.parameters().items()
    )
    options = {group["name"]: group for group in optimizer.param_groups}
    assert options["external_decay"]["weight_decay"] == 0.1
    assert options["external_no_decay"]["weight_decay"] == 0.0
    assert {group["beta"] for group in options.values()} == {0.8}


def test_settings_that_it_does_not_know_are_named_with_those_that_it_knows(module: Module) -> None:
    path = f"{module()}:SignMomentum"
    assert "settings.betta: unknown setting of this optimizer; did you mean 'beta'?" in refusal(
        path, betta=0.9
    )
    assert "known: beta, weight_decay, nesterov" in refusal(path, momentum=0.9)
    assert "settings.beta: 'high' is no float" in refusal(path, beta="high")
    assert "settings.nesterov: 1 is no bool" in refusal(path, nesterov=1)
    assert "settings.momentum: unknown setting" in refusal("torch.optim:AdamW", momentum=0.9)
    assert "Invalid beta parameter" in refusal("torch.optim:AdamW", betas=[0.9, 1.5])
    with pytest.raises(ValueError, match="the learning rate is `lr` of the optimizer"):
        ExternalSpec(path="torch.optim:AdamW", lr=0.1, settings={"lr": 0.2})


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("torch.optim:LBFGS", "calls `step\\(\\)` once, without a closure"),
        ("pytorch_optimizer:SAM", "has no learning rate `lr`"),
        ("pytorch_optimizer:AdaFactor", "goes as far at half the learning rate"),
        ("torch.optim:SparseAdam", "does not support dense gradients"),
        ("torch.optim:Muon", "only supports 2D parameters"),
        ("torch.optim:Optimizer", "is no optimizer"),
        ("torch.nn:Linear", "is no optimizer"),
        ("torch.optim:Nothing", "torch.optim has no class Nothing"),
        ("not_installed_anywhere.module:Optimizer", "start in the folder that holds the file"),
    ],
)
def test_what_it_cannot_do_is_refused_with_the_reason(path: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        try_out(ExternalSpec(path=path, lr=0.01))


def test_one_that_keeps_something_elsewhere_is_not_resumed(module: Module) -> None:
    found = try_out(ExternalSpec(path=f"{module(HIDDEN)}:Hidden", lr=0.01))
    assert found.not_resumable is not None
    assert "it keeps something elsewhere" in found.not_resumable


def test_trying_it_draws_no_random_number_of_the_trial(module: Module) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    try_out(ExternalSpec(path=f"{module()}:SignMomentum", lr=0.01))
    assert torch.equal(torch.rand(2), expected)


def test_a_whole_named_optimizer_brings_its_routes_its_build_and_its_specification(
    module: Module, toy: Any
) -> None:
    name = module(WHOLE)
    spec = ExternalSpec(path=f"{name}:Mine", lr=0.01, settings={"power": 0.5})
    found = try_out(spec)
    assert (found.needs_whole_parameters, found.not_resumable) == (False, None)
    (group,) = build_optimizer(spec, toy.parameters().items()).param_groups
    assert (group["name"], group["power"]) == ("all", 0.5)
    assert "did you mean 'power'?" in refusal(f"{name}:Mine", pover=0.5)
    assert "an attribute `spec`" in refusal(f"{name}:WithoutASpec")


def test_the_source_names_the_code(module: Module, tmp_path: Path) -> None:
    alone = module("import my_neighbour_1\nimport json\n", name="of_two_files")
    (tmp_path / "my_neighbour_1.py").write_text("x = 1\n")
    (tmp_path / "unrelated.py").write_text("x = 1\n")
    first = source_of(alone)

    def again() -> str:
        source_of.cache_clear()
        return source_of(alone)

    (tmp_path / "unrelated.py").write_text("x = 2\n")
    assert again() == first
    (tmp_path / "my_neighbour_1.py").write_text("x = 2\n")
    assert again() != first
    assert source_of("pytorch_optimizer").startswith("pytorch_optimizer 4.")
    assert source_of("torch.optim") == f"torch {torch.__version__.partition('+')[0]}"
    package = tmp_path / "mine" / "inner"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text("")
    (package / "optimizer.py").write_text("x = 1\n")
    inner = source_of("mine.inner.optimizer")
    assert inner == source_of("mine")
    assert inner.startswith("sha256:")


def test_other_code_than_the_study_was_planned_with_is_not_trained(module: Module) -> None:
    path = f"{module()}:SignMomentum"
    planned = ExternalSpec(path=path, lr=0.01, source="sha256:0123456789abcdef")
    with pytest.raises(ValueError, match="give every host the same code"):
        build_optimizer(planned, [("w", torch.nn.Parameter(torch.ones(2, 2)))])
