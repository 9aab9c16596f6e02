import pytest
from pydantic import ValidationError
from torch import empty

from optimizers import MatrixSplit, MuonSpec, RouteRule, routes
from optimizers.routing import route_parameters

SHAPES = {
    "embedding.weight": (50, 8),
    "layers.0.attention.qkv.weight": (24, 8),
    "layers.0.attention.output.weight": (8, 8),
    "layers.0.attention_norm.weight": (8,),
    "layers.0.moe.router.weight": (4, 8),
    "layers.0.moe.experts.up": (4, 8, 16),
    "layers.0.moe.experts.down": (4, 16, 8),
    "layers.0.attention.output.bias": (8,),
    "temperature": (),
    "head.weight": (50, 8),
}


def route(**options: object) -> dict[str, object]:
    named = [(name, empty(shape)) for name, shape in SHAPES.items()]
    return {route.name: route for route in routes(MuonSpec(lr=0.02, **options), named)}


def test_hidden_matrices_go_to_muon_and_the_rest_to_adamw_with_a_reason() -> None:
    found = route()
    on_muon = {name for name, entry in found.items() if entry.algorithm == "muon"}
    assert on_muon == {
        "layers.0.attention.qkv.weight",
        "layers.0.attention.output.weight",
        "layers.0.moe.experts.up",
        "layers.0.moe.experts.down",
    }
    assert list(found) == list(SHAPES)
    assert all(entry.reason for entry in found.values())
    assert found["temperature"].reason == "a vector or scalar, not a matrix"
    assert "router" in found["layers.0.moe.router.weight"].reason


def test_only_tensors_of_two_dimensions_decay() -> None:
    found = route()
    assert found["embedding.weight"].group == "adamw_decay"
    assert found["layers.0.attention_norm.weight"].group == "adamw_no_decay"
    assert found["temperature"].group == "adamw_no_decay"


def test_experts_are_as_many_matrices_and_the_scale_knows_their_orientation() -> None:
    up = route()["layers.0.moe.experts.up"]
    assert up.num_matrices == 4
    assert up.matrix_shapes == ((8, 16),)
    assert [matrix.offset for matrix in up.matrices] == [0, 128, 256, 384]
    assert up.matrices[0].fan_out_in == (16, 8)
    assert route()["layers.0.attention.qkv.weight"].matrices[0].fan_out_in == (8, 8)
    whole = route(splits=())["layers.0.attention.qkv.weight"]
    assert whole.matrices[0].fan_out_in == (24, 8)


def test_the_router_can_be_included() -> None:
    assert route(include_router=True)["layers.0.moe.router.weight"].algorithm == "muon"


def test_the_first_matching_rule_wins() -> None:
    rules = (
        RouteRule(pattern="*.output.weight", algorithm="muon"),
        RouteRule(pattern="layers.0.attention.*", algorithm="adamw", reason="an ablation"),
    )
    found = route(routes=rules)
    assert found["layers.0.attention.output.weight"].algorithm == "muon"
    assert found["layers.0.attention.qkv.weight"].reason == "an ablation (layers.0.attention.*)"


def test_a_fused_weight_is_split_into_blocks_of_rows() -> None:
    pattern = "*.qkv.weight"
    equal = route(splits=(MatrixSplit(pattern=pattern, parts=3),))["layers.0.attention.qkv.weight"]
    assert [(m.offset, m.rows, m.columns) for m in equal.matrices] == [
        (0, 8, 8),
        (64, 8, 8),
        (128, 8, 8),
    ]
    grouped = route(splits=(MatrixSplit(pattern=pattern, rows=(16, 4, 4)),))[
        "layers.0.attention.qkv.weight"
    ]
    assert grouped.matrix_shapes == ((16, 8), (4, 8))
    assert sum(matrix.numel for matrix in grouped.matrices) == 24 * 8


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"route pattern '\*.atention.\*' matches no parameter"):
        route(routes=(RouteRule(pattern="*.atention.*", algorithm="adamw"),))
    with pytest.raises(ValueError, match=r"split .* pattern 'head.weight' matches no parameter"):
        route(splits=(MatrixSplit(pattern="head.weight", parts=2),))


def test_a_parameter_that_nobody_claims_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"nobody claims parameter conv of shape \(2, 3, 4, 5\)"):
        route_parameters([("conv", (2, 3, 4, 5))], rules=(), defaults=())
    claimed = (RouteRule(pattern="conv", algorithm="adamw"),)
    assert route_parameters([("conv", (2, 3, 4, 5))], rules=claimed, defaults=())


def test_a_vector_cannot_be_sent_to_muon() -> None:
    with pytest.raises(ValueError, match=r"temperature of shape \(\) cannot go to muon"):
        route(routes=(RouteRule(pattern="temperature", algorithm="muon"),))


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"parts": 5}, "which 5 parts .* do not divide"),
        ({"rows": (10, 4)}, "has 24 rows and the split .* names 14"),
    ],
)
def test_a_split_that_does_not_fit_is_an_error(split: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        route(splits=(MatrixSplit(pattern="*.qkv.weight", **split),))


def test_a_split_says_how_exactly_once() -> None:
    for wrong in ({}, {"parts": 2, "rows": (1, 2)}, {"rows": (3,)}):
        with pytest.raises(ValidationError):
            MatrixSplit(pattern="x", **wrong)


def test_a_duplicate_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="must be unique, got twice: a"):
        route_parameters([("a", (2, 2)), ("a", (2, 2))], rules=(), defaults=())
