import pytest
from pydantic import ValidationError

from harness.data import DataConfig


def test_the_default_reads_the_standard_library() -> None:
    config = DataConfig()
    assert (config.source, config.tokenizer, config.sequence_length) == ("stdlib", "bpe", 128)


def test_every_field_is_described() -> None:
    assert [n for n, f in DataConfig.model_fields.items() if not f.description] == []


def test_a_preset_fills_and_pins_the_hub_fields() -> None:
    config = DataConfig(preset="cosmopedia-v2", max_tokens=1000)
    assert config.source == "hub"
    assert (config.dataset, config.subset) == ("HuggingFaceTB/smollm-corpus", "cosmopedia-v2")
    assert config.revision is not None
    assert len(config.revision) == 40


def test_a_preset_survives_a_round_trip_through_json() -> None:
    config = DataConfig(preset="cosmopedia-v2", max_tokens=1000)
    assert DataConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "files"}, "files is empty"),
        ({"files": ("a.txt",)}, "write source = 'files'"),
        ({"dataset": "a/b"}, "write source = 'hub'"),
        ({"preset": "pile"}, "choose one of cosmopedia-v2"),
        ({"preset": "cosmopedia-v2", "source": "stdlib"}, "remove one of the two"),
        ({"preset": "cosmopedia-v2"}, "set max_tokens or max_documents"),
        ({"source": "hub", "dataset": "a/b", "revision": "main", "max_tokens": 1}, "pinned"),
        ({"tokenizer_revision": "abc"}, "trained here"),
        ({"vocab_size": 256}, "vocab_size"),
        ({"validation_fraction": 0.0}, "validation_fraction"),
        ({"sequence_lenght": 8}, "sequence_lenght"),
    ],
)
def test_a_mistake_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataConfig.model_validate(settings)


def test_all_mistakes_of_the_hub_fields_are_named_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        DataConfig(source="hub")
    for mistake in ("dataset is missing", "revision is None", "without a limit"):
        assert mistake in str(caught.value)
