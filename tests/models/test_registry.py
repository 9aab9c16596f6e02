"""The models that a study file can name."""

import pytest
from pydantic import BaseModel, ValidationError

from models import MODELS, AnyModel, ModelConfig, MoETransformer, build_model


class Section(BaseModel):
    model: AnyModel


def test_a_table_without_a_kind_is_the_transformer() -> None:
    for table in ({"hidden_size": 32}, {"kind": "transformer", "hidden_size": 32}):
        assert Section.model_validate({"model": table}).model == ModelConfig(hidden_size=32)


def test_the_default_kind_is_not_written_so_that_it_changes_no_hash() -> None:
    section = Section(model=ModelConfig())
    assert "kind" not in section.model_dump(mode="json")["model"]
    assert Section.model_validate_json(section.model_dump_json()) == section


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="'transformer'"):
        Section.model_validate({"model": {"kind": "perceptron"}})


@pytest.mark.parametrize("kind", MODELS)
def test_every_model_keeps_its_settings_and_its_blocks(kind: str) -> None:
    config = MODELS[kind].config()
    model = build_model(config, vocab_size=7)
    assert model.config is config
    assert len(list(model.get_submodule("blocks").children())) == config.num_layers


def test_the_transformer_is_built_from_its_settings() -> None:
    assert isinstance(build_model(ModelConfig(), vocab_size=7), MoETransformer)
