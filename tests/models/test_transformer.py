from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from models import ModelConfig, ModelOutput, MoETransformer

Build = Callable[..., MoETransformer]
Batch = tuple[Tensor, Tensor]


def gradients(model: MoETransformer) -> dict[str, Tensor]:
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is not None for gradient in found.values())
    return found


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"activation": "swiglu", "tie_embeddings": False},
        {"experts_per_token": 1, "scale_embeddings": False},
        {"experts_per_token": 4},
        {"feed_forward": "dense"},
        {"feed_forward": "dense", "activation": "swiglu"},
    ],
)
def test_the_model_agrees_with_plain_mathematics_forward_and_backward(
    small_model: Build, dense_transformer: Callable[..., ModelOutput], batch: Batch, overrides: dict
) -> None:
    model = small_model(**overrides).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(
            parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel())
        )
    ours = model(*batch)
    ours.loss.backward()
    our_gradients = gradients(model)
    model.zero_grad()
    theirs = dense_transformer(model, *batch)
    theirs.loss.backward()
    for name in ("loss", "cross_entropy", "auxiliary_loss", "num_correct"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-10, atol=0)
    torch.testing.assert_close(ours.router_load, theirs.router_load, check_dtype=False)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(our_gradients[name], gradient, rtol=1e-8, atol=1e-12, msg=name)


def test_a_future_token_changes_nothing_before_it(small_model: Build, batch: Batch) -> None:
    model, tokens = small_model(), batch[0]
    changed = tokens.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 50
    before, after = model.logits(tokens), model.logits(changed)
    torch.testing.assert_close(before[:, :7], after[:, :7], rtol=0, atol=1e-6)
    assert (before[:, 7:] - after[:, 7:]).abs().amax(-1).min() > 1e-5


def test_the_mean_over_workers_is_the_loss_and_the_gradient_of_the_global_batch(
    small_model: Build, batch: Batch
) -> None:
    model = small_model(load_balancing_weight=1.0, router_z_weight=1.0).double()
    whole = model(*batch)
    whole.loss.backward()
    of_whole = gradients(model)
    model.zero_grad()
    shares = [
        model(tokens, targets) for tokens, targets in zip(*(b.chunk(2) for b in batch), strict=True)
    ]
    for share in shares:
        (share.loss / 2).backward()
    for name, value in whole._asdict().items():
        parts = torch.stack([getattr(share, name) for share in shares]).double()
        total = parts.sum(0) if name == "num_correct" else parts.mean(0)
        torch.testing.assert_close(total, value.double(), rtol=1e-6, atol=0, msg=name)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, of_whole[name], rtol=1e-9, atol=1e-14, msg=name)


def test_the_loss_is_the_cross_entropy_and_the_weighted_auxiliary_losses(
    small_model: Build, batch: Batch
) -> None:
    output = small_model()(*batch)
    assert output.auxiliary_loss > 0
    torch.testing.assert_close(output.loss, output.cross_entropy + output.auxiliary_loss)
    free = small_model(load_balancing_weight=0.0, router_z_weight=0.0)(*batch)
    assert free.auxiliary_loss == 0
    assert torch.equal(free.cross_entropy, output.cross_entropy)


def test_the_router_load_is_a_fraction_of_the_assignments_and_detached(
    small_model: Build, batch: Batch
) -> None:
    load = small_model()(*batch).router_load
    assert load.shape == (2, 4)
    torch.testing.assert_close(load.sum(1), torch.ones(2))
    assert not load.requires_grad


def test_a_dense_model_has_no_router_to_report(small_model: Build, batch: Batch) -> None:
    output = small_model(feed_forward="dense")(*batch)
    assert output.router_load.shape[0] == 0
    assert output.auxiliary_loss == 0


def test_a_tied_head_is_the_embedding(small_model: Build, batch: Batch) -> None:
    tied, untied = small_model(tie_embeddings=True), small_model(tie_embeddings=False)
    assert tied.head.weight is tied.embedding.weight
    assert "head.weight" not in dict(tied.named_parameters())
    assert untied.head.weight.data_ptr() != untied.embedding.weight.data_ptr()
    assert "head.weight" in dict(untied.named_parameters())
    tied(*batch).loss.backward()
    unused = torch.ones(50, dtype=torch.bool)
    unused[batch[0].unique()] = False
    assert tied.embedding.weight.grad is not None
    assert tied.embedding.weight.grad[unused].abs().sum() > 0, "the head's share is missing"


def test_parameter_names_are_those_that_optimizers_route_by(small_model: Build) -> None:
    model = small_model(num_layers=1, activation="swiglu", tie_embeddings=False)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert shapes == {
        "embedding.weight": (50, 16),
        "blocks.0.attention_norm.weight": (16,),
        "blocks.0.attention.qkv.weight": (48, 16),
        "blocks.0.attention.output.weight": (16, 16),
        "blocks.0.feed_forward_norm.weight": (16,),
        "blocks.0.feed_forward.router.weight": (4, 16),
        "blocks.0.feed_forward.experts.up": (4, 16, 24),
        "blocks.0.feed_forward.experts.gate": (4, 16, 24),
        "blocks.0.feed_forward.experts.down": (4, 24, 16),
        "final_norm.weight": (16,),
        "head.weight": (50, 16),
    }


def test_bf16_autocast_stays_near_fp32(small_model: Build, batch: Batch) -> None:
    model = small_model(activation="swiglu")
    exact = model(*batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(*batch)
    assert output.loss.dtype == output.cross_entropy.dtype == torch.float32
    torch.testing.assert_close(output.loss, exact.loss, rtol=0.01, atol=0)
    output.loss.backward()
    gradients(model)


def test_a_diverged_model_returns_nan_and_does_not_raise(small_model: Build, batch: Batch) -> None:
    model = small_model()
    with torch.no_grad():
        model.blocks[0].attention.qkv.weight.fill_(torch.nan)
    output = model(*batch)
    assert output.loss.isnan()
    assert output.num_correct <= batch[1].numel()
    output.loss.backward()


def test_it_learns_to_copy(small_model: Build) -> None:
    model = small_model(vocab_size=8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    first = None
    for _ in range(30):
        tokens = torch.randint(8, (8, 8), generator=generator)
        output = model(tokens, tokens)
        first = first or output.cross_entropy.item()
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    assert output.cross_entropy.item() < 0.5 * first
    assert output.num_correct > 48


@pytest.fixture
def process_group_of_one(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group_of_one")
@pytest.mark.parametrize("wrapper", ["ddp", "fully_shard"])
def test_it_can_be_wrapped_and_every_parameter_is_used(
    small_model: Build, batch: Batch, wrapper: str
) -> None:
    model = small_model(num_experts=16, experts_per_token=1, activation="swiglu")
    alone = model(*batch)
    assert (alone.router_load == 0).any(), "some expert must be without tokens"
    alone.loss.backward()
    expected = gradients(model)
    model.zero_grad()
    wrapped: torch.nn.Module = model
    if wrapper == "ddp":
        wrapped = DistributedDataParallel(model)
    else:
        mesh = init_device_mesh("cpu", (1,))
        for part in (*model.blocks, model):
            fully_shard(part, mesh=mesh)
    for _ in range(2):  # DDP complains in the second pass if a parameter went unused
        wrapped.zero_grad()
        output = wrapped(*batch)
        output.loss.backward()
    assert isinstance(output, ModelOutput)
    for name, gradient in gradients(model).items():
        whole = gradient.full_tensor() if isinstance(gradient, DTensor) else gradient
        torch.testing.assert_close(whole, expected[name], msg=name)


def test_a_vocabulary_needs_a_token() -> None:
    with pytest.raises(ValueError, match=r"vocab_size \(0\) must be at least 1"):
        MoETransformer(ModelConfig(), vocab_size=0)
