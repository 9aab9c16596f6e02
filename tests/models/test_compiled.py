"""Compiled and checkpointed blocks are the blocks as written."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from models import MoETransformer
from models import attention as attention_module

# Warnings of Dynamo about what it does itself: it looks at .grad of inputs that are no leaves, and
# makes instances of autograd Functions.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),
    pytest.mark.filterwarnings("ignore:.*autograd.function.Function.*:DeprecationWarning"),
]

Build = Callable[..., MoETransformer]
Batch = tuple[Tensor, Tensor]


def loss_and_gradients(model: MoETransformer, batch: Batch, *, bf16: bool) -> dict[str, Tensor]:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        loss = model(*batch).loss
    loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {"loss": loss.detach()} | {n: g for n, g in found.items() if g is not None}


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("bf16", [False, True])
def test_compiled_blocks_are_the_blocks_as_written(
    small_model: Build, batch: Batch, bf16: bool, checkpointed: bool
) -> None:
    plain, compiled = small_model(activation="swiglu"), small_model(activation="swiglu")
    expected = loss_and_gradients(plain, batch, bf16=bf16)
    compiled.compile_blocks(backend="aot_eager")
    if checkpointed:
        compiled.checkpoint_blocks()
    ours = loss_and_gradients(compiled, batch, bf16=bf16)
    assert counters["stats"]["unique_graphs"] > 0
    assert list(ours) == list(expected)
    for name, value in expected.items():
        error = (ours[name] - value).norm() / value.norm()
        assert error < (0.03 if bf16 else 1e-5), name


@pytest.mark.usefixtures("fresh_compiler")
def test_in_bf16_all_blocks_share_one_graph_without_a_break(
    small_model: Build, batch: Batch
) -> None:
    model = small_model(num_layers=10, activation="swiglu")  # more than Dynamo's limit of 8
    model.compile_blocks(backend="aot_eager")
    loss_and_gradients(model, batch, bf16=True)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("bf16", [False, True])
def test_another_batch_is_sent_to_other_experts_and_compiled_no_more(
    small_model: Build, batch: Batch, bf16: bool
) -> None:
    model = small_model(activation="swiglu")
    model.compile_blocks(backend="aot_eager")
    graphs, loads = [], []
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(50, batch[0].shape, generator=generator)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            output = model(tokens, batch[1])
        output.loss.backward()
        graphs.append(counters["stats"]["unique_graphs"])
        loads.append(str(output.router_load.tolist()))
    assert len(set(loads)) == 4, "the batches must differ for the test to mean anything"
    assert len(set(graphs)) == 1


@pytest.mark.parametrize("feed_forward", ["moe", "dense"])
@pytest.mark.parametrize("bf16", [False, True])
def test_checkpointed_blocks_give_the_same_bits(
    small_model: Build, batch: Batch, bf16: bool, feed_forward: str
) -> None:
    plain, checkpointed = (small_model(feed_forward=feed_forward) for _ in range(2))
    checkpointed.checkpoint_blocks()
    expected = loss_and_gradients(plain, batch, bf16=bf16)
    ours = loss_and_gradients(checkpointed, batch, bf16=bf16)
    assert list(ours) == list(expected)
    for name, value in expected.items():
        assert torch.equal(ours[name], value), name


def test_checkpointed_blocks_run_twice_in_training_and_once_in_evaluation(
    small_model: Build, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    real = attention_module.causal_attention

    def counted(*qkv: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return real(*qkv)

    monkeypatch.setattr(attention_module, "causal_attention", counted)
    model = small_model()
    model.checkpoint_blocks()
    with torch.no_grad():
        model(*batch)
    assert calls == 2
    model(*batch).loss.backward()
    assert calls == 2 + 4


def test_names_stay_as_they_are(small_model: Build) -> None:
    model, plain = small_model(), small_model()
    model.compile_blocks(backend="eager")
    model.checkpoint_blocks()
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [n for n, _ in model.named_modules()] == [n for n, _ in plain.named_modules()]
