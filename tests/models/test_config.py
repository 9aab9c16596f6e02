import re

import pytest
from pydantic import ValidationError

from models import SIZES, ModelConfig, resolve_size


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"num_heads": 7},
            "num_heads (7) must divide hidden_size (256): choose 4, 8 or 16",
        ),
        (
            {"hidden_size": 36, "num_heads": 4},
            "hidden_size / num_heads (36 / 4 = 9) must be even, because rotary embeddings turn "
            "pairs of features: choose 2, 3 or 6",
        ),
        (
            {"hidden_size": 33, "num_heads": 3},
            "(33 / 3 = 11) must be even, because rotary embeddings turn pairs of features: "
            "choose an even hidden_size",
        ),
        ({"hidden_size": 2, "num_heads": 2}, "choose 1"),
        (
            {"experts_per_token": 9},
            "experts_per_token (9) cannot exceed num_experts (8): choose 1 to 8",
        ),
        (
            {"feed_forward": "dense", "num_experts": 4},
            "num_experts (4) has no effect when feed_forward is 'dense': leave it out or set "
            "feed_forward to 'moe'",
        ),
        ({"hiden_size": 64}, "hiden_size"),
        ({"activation": "relu"}, "'silu' or 'swiglu'"),
        ({"router_z_weight": float("nan")}, "router_z_weight"),
        ({"load_balancing_weight": -0.1}, "greater than or equal to 0"),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(fields: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        ModelConfig(**fields)


def test_the_advice_on_heads_is_good() -> None:
    for heads in (2, 3, 6):
        assert ModelConfig(hidden_size=36, num_heads=heads).head_size % 2 == 0


@pytest.mark.parametrize("name", SIZES)
def test_every_size_is_valid_and_survives_a_round_trip(name: str) -> None:
    config = ModelConfig(**resolve_size({"size": name}))
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config


def test_the_published_sizes_are_as_published() -> None:
    ablation = ModelConfig(**resolve_size({"size": "ablation"}))
    assert (ablation.hidden_size, ablation.num_layers, ablation.num_heads) == (256, 4, 8)
    assert (ablation.feed_forward, ablation.feed_forward_size) == ("dense", 1024)
    baseline = ModelConfig(**resolve_size({"size": "moe-baseline"}))
    assert (baseline.hidden_size, baseline.num_layers, baseline.num_heads) == (384, 6, 8)
    assert (baseline.feed_forward, baseline.feed_forward_size) == ("moe", 1536)
    assert (baseline.num_experts, baseline.experts_per_token) == (8, 2)


def test_what_is_given_beside_the_name_wins() -> None:
    fields = resolve_size({"size": "moe-baseline", "num_layers": 2})
    assert fields["num_layers"] == 2
    assert fields["hidden_size"] == 384
    assert "size" not in fields
    assert resolve_size({"num_layers": 3}) == {"num_layers": 3}


def test_the_named_sizes_cannot_be_changed_through_the_result() -> None:
    resolve_size({"size": "tiny"})["hidden_size"] = 1
    assert SIZES["tiny"]["hidden_size"] > 1


def test_a_size_made_dense_drops_its_experts() -> None:
    config = ModelConfig(**resolve_size({"size": "tiny", "feed_forward": "dense"}))
    assert config.feed_forward == "dense"


def test_but_experts_asked_for_in_a_dense_model_are_refused() -> None:
    fields = resolve_size({"size": "tiny", "feed_forward": "dense", "num_experts": 16})
    with pytest.raises(ValidationError, match=r"num_experts \(16\) has no effect"):
        ModelConfig(**fields)


def test_an_unknown_size_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"size 'moe-base' is unknown: did you mean 'moe-baseli"):
        resolve_size({"size": "moe-base"})


def test_every_field_is_described_and_the_config_is_frozen() -> None:
    assert all(field.description for field in ModelConfig.model_fields.values())
    with pytest.raises(ValidationError, match="frozen"):
        ModelConfig().hidden_size = 2  # type: ignore[misc]
