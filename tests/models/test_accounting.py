from collections.abc import Callable

import pytest
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models import (
    MoETransformer,
    num_active_parameters,
    num_parameters,
    training_flops_per_token,
)

Build = Callable[..., MoETransformer]


@pytest.mark.parametrize("activation", ["silu", "swiglu"])
@pytest.mark.parametrize("feed_forward", ["moe", "dense"])
def test_the_formula_is_what_the_flop_counter_counts(
    small_model: Build, batch: tuple[Tensor, Tensor], feed_forward: str, activation: str
) -> None:
    model = small_model(feed_forward=feed_forward, activation=activation)
    # The counter does not know the flash kernel for CPUs; the plain one is two products.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(*batch).loss.backward()
    formula = training_flops_per_token(model.config, vocab_size=50, sequence_length=12)
    assert counter.get_total_flops() == formula * batch[0].numel()


def test_parameters_are_counted_once_and_experts_by_the_share_that_a_token_meets(
    small_model: Build,
) -> None:
    model = small_model(num_layers=1, experts_per_token=1)
    experts = 4 * 2 * 16 * 24
    rest = 50 * 16 + 4 * 16 * 16 + 4 * 16 + 3 * 16
    assert num_parameters(model) == rest + experts
    assert num_active_parameters(model) == rest + experts // 4
    dense = small_model(feed_forward="dense")
    assert num_active_parameters(dense) == num_parameters(dense)
