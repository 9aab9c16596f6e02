import pytest
import torch

from optimizers import AdamWSpec, MuonSpec, forecast

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
