import pytest
import torch

from optimizers import AdamWSpec, MuonSpec, forecast
from optimizers.matrices.specs import ScionSpec, ShampooSpec, SoapSpec

SHAPES = {
    "embedding.weight": (50, 8),
    "layers.0.attention.weight": (8, 8),
    "layers.0.experts.up": (4, 8, 16),
    "layers.0.experts.down": (4, 16, 8),
    "layers.0.norm.weight": (8,),
}
NAMED = [(name, torch.empty(shape, device="meta")) for name, shape in SHAPES.items()]
MUON_ELEMENTS = 64 + 2 * 4 * 128


@pytest.mark.parametrize("storage", ["whole", "rows", "slices", "flat"])
def test_the_work_is_shared_and_adds_up(storage: str) -> None:
    found = forecast(MuonSpec(lr=0.02), NAMED, workers=3, storage=storage)
    assert [row.route.name for row in found.parameters] == list(SHAPES)
    assert sum(found.flops) == sum(row.flops for row in found.parameters)
    assert all(load > 0 for load in found.flops)
    up = found.parameters[2]
    assert len(up.owners) == 4
    assert set(up.owners) <= {0, 1, 2}
    assert "chosen" in up.computation


@pytest.mark.parametrize(("dtype", "bytes_back"), [("fp32", 4), ("bf16", 2)])
def test_reduced_gradients_cost_the_floor_of_data_parallelism(dtype: str, bytes_back: int) -> None:
    """There as fp32 gradients, back as updates in the dtype of Newton-Schulz."""
    for workers in (2, 4):
        found = forecast(MuonSpec(lr=0.02, ns_dtype=dtype), NAMED, workers=workers, reduces=True)
        travels = MUON_ELEMENTS * (workers - 1) / workers
        assert found.bytes_floor == pytest.approx((4 + bytes_back) * travels)
        assert sum(found.bytes_sent) / workers == pytest.approx(found.bytes_floor)


def test_replicated_work_costs_no_bytes_and_everyone_does_all() -> None:
    found = forecast(MuonSpec(lr=0.02, exchange="replicated"), NAMED, workers=4)
    assert found.bytes_sent == (0, 0, 0, 0)
    assert len(set(found.flops)) == 1
    assert found.parameters[1].owners == (-1,)


def test_adamw_shares_nothing() -> None:
    found = forecast(AdamWSpec(lr=0.02), NAMED, workers=2)
    assert found.flops == found.bytes_sent == (0, 0)
    assert {row.route.algorithm for row in found.parameters} == {"adamw"}


@pytest.mark.parametrize("spec", [SoapSpec(lr=0.01), ShampooSpec(lr=0.01)], ids=lambda s: s.kind)
def test_gradients_and_directions_cost_the_floor_of_data_parallelism(
    spec: SoapSpec | ShampooSpec,
) -> None:
    found = forecast(spec, NAMED, workers=4, reduces=True)
    assert found.bytes_floor == pytest.approx((4 + 4) * MUON_ELEMENTS * 3 / 4)
    assert sum(found.bytes_sent) / 4 == pytest.approx(found.bytes_floor)
    up = found.parameters[2]
    assert up.route.algorithm == spec.kind
    assert set(up.owners) == {0, 1, 2, 3}
    assert "8x8 and 16x16" in up.computation
    assert sum(found.flops) == sum(row.flops for row in found.parameters) > 0


def test_a_side_that_is_too_long_costs_nothing() -> None:
    short = forecast(SoapSpec(lr=0.01, max_precond_dim=8), NAMED, workers=1)
    assert "(8x8)" in short.parameters[2].computation
    assert short.flops[0] < forecast(SoapSpec(lr=0.01), NAMED, workers=1).flops[0]


def test_scion_shares_what_it_orthogonalises_and_no_embedding() -> None:
    found = forecast(ScionSpec(lr=1e-3), NAMED, workers=2)
    owners = {row.route.group: row.owners for row in found.parameters}
    assert owners["scion_sign"] == owners["scion_vector"] == ()
    assert found.parameters[1].owners in {(0,), (1,)}
