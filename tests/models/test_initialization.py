import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from models import MoETransformer, initialize, parameters_sha256

Build = Callable[..., MoETransformer]

SCRIPT = """
import torch
from models import ModelConfig, MoETransformer, initialize, parameters_sha256

torch.set_num_threads({threads})
torch.manual_seed({global_seed})
config = ModelConfig(hidden_size=64, num_layers=2, num_heads=4, feed_forward_size=128)
model = MoETransformer(config, vocab_size=500)
initialize(model, seed=7)
print(parameters_sha256(model))
"""


def test_another_process_with_other_threads_and_global_seed_draws_the_same() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT.format(threads=threads, global_seed=threads)],
            capture_output=True,
            text=True,
            check=True,
        )
        for threads in (1, 2)
    ]
    assert len(runs[0].stdout.strip()) == 64
    assert runs[0].stdout == runs[1].stdout


def test_a_parameter_depends_on_the_seed_and_its_name_only(small_model: Build) -> None:
    model = small_model(seed=3)
    # Other layers, another vocabulary, more parameters in each block.
    other = small_model(
        seed=3, num_layers=5, vocab_size=77, activation="swiglu", tie_embeddings=False
    )
    values, others = dict(model.named_parameters()), dict(other.named_parameters())
    for name in ("attention.qkv.weight", "feed_forward.router.weight", "feed_forward.experts.up"):
        full_name = f"blocks.1.{name}"
        assert torch.equal(values[full_name], others[full_name]), full_name
    assert not torch.equal(
        values["blocks.0.attention.qkv.weight"], values["blocks.1.attention.qkv.weight"]
    )


def test_seeds_differ_and_repeat(small_model: Build) -> None:
    model = small_model(seed=0)
    first = parameters_sha256(model)
    initialize(model, seed=1)
    assert parameters_sha256(model) != first
    initialize(model, seed=0)
    assert parameters_sha256(model) == first


def test_global_random_state_is_not_touched(small_model: Build) -> None:
    model = small_model()
    state = torch.get_rng_state()
    initialize(model, seed=5)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("feed_forward", ["moe", "dense"])
def test_the_distributions_are_those_of_the_docstring(
    small_model: Build, feed_forward: str
) -> None:
    model = small_model(
        hidden_size=64,
        num_layers=8,
        feed_forward_size=96,
        activation="swiglu",
        feed_forward=feed_forward,
        tie_embeddings=False,
        vocab_size=200,
    )
    seen = set()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert (parameter == 1).all(), name
            continue
        added_to_residual = name.endswith((".down", ".down.weight", ".output.weight"))
        deviation = 0.02 / 4 if added_to_residual else 0.02  # sqrt(2 * 8) = 4
        seen.add(deviation)
        # Five standard errors of a standard deviation and of a mean.
        count = parameter.numel()
        assert parameter.std().item() == pytest.approx(deviation, rel=5 / (2 * count) ** 0.5), name
        assert abs(parameter.mean().item()) < 5 * deviation / count**0.5, name
    assert seen == {0.02, 0.005}


def test_every_expert_begins_differently(small_model: Build) -> None:
    stack = dict(small_model().named_parameters())["blocks.0.feed_forward.experts.up"]
    assert len({expert.detach().numpy().tobytes() for expert in stack}) == 4


def test_a_wrapped_model_is_refused(small_model: Build) -> None:
    wrapped = torch.nn.Sequential(small_model())
    with pytest.raises(ValueError, match=r"cannot initialize a Sequential: give the MoETransf"):
        initialize(wrapped, seed=0)


def test_a_negative_seed_is_refused(small_model: Build) -> None:
    with pytest.raises(ValueError, match=r"seed \(-1\) must be at least 0"):
        initialize(small_model(), seed=-1)


def test_the_hash_sees_a_value_a_name_and_a_shape() -> None:
    def hash_of(**tensors: torch.Tensor) -> str:
        module = torch.nn.Module()
        for name, tensor in tensors.items():
            module.register_parameter(name, torch.nn.Parameter(tensor))
        return parameters_sha256(module)

    base = hash_of(a=torch.zeros(2, 3))
    assert base == hash_of(a=torch.zeros(2, 3)) == hash_of(a=torch.zeros(2, 3).bfloat16())
    assert base != hash_of(b=torch.zeros(2, 3))
    assert base != hash_of(a=torch.zeros(3, 2))
    assert base != hash_of(a=torch.full((2, 3), 1e-45))
    both = {"a": torch.zeros(1), "b": torch.ones(1)}
    assert hash_of(**both) == hash_of(**dict(reversed(both.items())))
