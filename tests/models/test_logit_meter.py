"""The model measures the largest attention logit of every head, when it is asked to."""

import pytest
import torch

from models import ModelConfig, build_model, initialize
from models.attention import LogitMeter


@pytest.mark.parametrize("tokens", [5, 128, 300])
def test_the_meter_finds_the_largest_logit_that_a_token_sees(tokens: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2, 3, tokens, 4, generator=generator) for _ in range(2))
    k = k * torch.arange(tokens).unsqueeze(-1)  # the largest are those that are not seen
    logits = (q @ k.mT / 2.0).masked_fill(~torch.ones(tokens, tokens).tril().bool(), -torch.inf)
    meter = LogitMeter(3)
    meter.measure(q, k)
    torch.testing.assert_close(meter.take(), logits.amax((0, 2, 3)))
    assert torch.equal(meter.take(), torch.zeros(3))


def test_the_largest_of_several_batches_counts_and_what_is_not_finite_does_not() -> None:
    meter, one = LogitMeter(1), torch.ones(1, 1, 2, 4)
    for factor in (1.0, 3.0, 2.0, float("nan")):
        meter.measure(one * factor, one)
    assert meter.take().item() == pytest.approx(6.0)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # as in test_compiled.py
@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.*:DeprecationWarning")
def test_a_model_measures_while_training_and_computes_the_same() -> None:
    config = ModelConfig(hidden_size=16, num_heads=2, num_layers=2, feed_forward_size=24)
    tokens = torch.randint(0, 50, (2, 12), generator=torch.Generator().manual_seed(0))
    losses = []
    for measures in (False, True):
        model = build_model(config, vocab_size=50)
        initialize(model, seed=0)
        taken = model.measure_attention() if measures else {}
        losses.append(model(tokens, tokens).loss.item())
    assert losses[0] == losses[1]
    names = dict(model.named_parameters())
    assert set(taken) == {f"blocks.{i}.attention.qkv.weight" for i in range(2)} <= set(names)
    assert all(take().shape == (2,) for take in taken.values())
    model(tokens, tokens)
    by_hand = [take() for take in taken.values()]
    model.compile_blocks(backend="eager")
    model(tokens, tokens)
    for take, expected in zip(taken.values(), by_hand, strict=True):
        torch.testing.assert_close(take(), expected)
    with torch.no_grad():
        model(tokens, tokens)
    assert all(torch.equal(take(), torch.zeros(2)) for take in taken.values())
