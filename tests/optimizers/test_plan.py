import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers.layouts import flat_layout, row_layout, slice_layout, whole_layout
from optimizers.newton_schulz import newton_schulz_flops
from optimizers.plan import EVERYONE, Layout, Plan, make_plan
from optimizers.routing import Matrix, route_parameters
from optimizers.sharing import best_sharing

LAYOUTS = {
    "whole": whole_layout,
    "rows": row_layout,
    "slices": slice_layout,
    "flat": flat_layout,
}
side = st.integers(1, 12)
shapes = st.lists(
    st.one_of(st.tuples(side, side), st.tuples(st.integers(1, 9), side, side)),
    min_size=1,
    max_size=12,
).map(lambda found: [(f"p{i}", shape) for i, shape in enumerate(found)])


def flops(matrix: Matrix) -> int:
    return newton_schulz_flops(matrix.rows, matrix.columns, num_steps=5, form="standard")


def plan_for(
    named_shapes: Sequence[tuple[str, tuple[int, ...]]],
    layout: Layout,
    *,
    workers: int,
    share_whole: bool = True,
    reduces: bool = False,
    nodes: tuple[int, ...] | None = None,
) -> Plan:
    routes = route_parameters(named_shapes, rules=(), defaults=())
    return make_plan(
        [matrix for route in routes for matrix in route.matrices],
        layout=layout,
        workers=workers,
        cost=flops,
        travel_bytes=lambda matrix: (4, 4),
        share_whole=share_whole,
        reduces=reduces,
        nodes=nodes,
    )


@settings(max_examples=150, deadline=None)
@given(shapes, st.integers(1, 9), st.sampled_from(list(LAYOUTS)))
def test_every_layout_covers_every_parameter_once_or_is_whole(
    named_shapes: list[tuple[str, tuple[int, ...]]], workers: int, kind: str
) -> None:
    layout = LAYOUTS[kind](named_shapes, workers=workers)
    for name, shape in named_shapes:
        owned = [0] * math.prod(shape)
        for start, stop in layout[name]:
            for element in range(start, stop):
                owned[element] += 1
        assert set(owned) == {workers if kind == "whole" else 1}


@settings(max_examples=150, deadline=None)
@given(shapes, st.integers(2, 9), st.sampled_from(list(LAYOUTS)))
def test_every_element_has_one_owner_one_momentum_and_the_weights_of_the_layout(
    named_shapes: list[tuple[str, tuple[int, ...]]], workers: int, kind: str
) -> None:
    layout = LAYOUTS[kind](named_shapes, workers=workers)
    plan = plan_for(named_shapes, layout, workers=workers)
    assert sorted(i for bucket in plan.buckets for i in bucket.indices) == list(
        range(len(plan.shares))
    )
    for share in plan.shares:
        assert 0 <= share.owner < workers
        held = sorted(r for r in share.momentum if r[0] < r[1])
        assert [a for a, _ in held] == [0, *(b for _, b in held[:-1])]
        assert held[-1][1] == share.matrix.numel
        begin = share.matrix.offset
        for (a, b), (start, stop) in zip(
            share.weights, layout[share.matrix.parameter], strict=True
        ):
            inside = range(max(start, begin), min(stop, begin + share.matrix.numel))
            assert range(begin + a, begin + b) == inside or (a == b and not inside)


@settings(max_examples=200, deadline=None)
@given(shapes, st.integers(2, 9), st.sampled_from(list(LAYOUTS)))
def test_loads_differ_by_at_most_the_largest_matrix(
    named_shapes: list[tuple[str, tuple[int, ...]]], workers: int, kind: str
) -> None:
    plan = plan_for(named_shapes, LAYOUTS[kind](named_shapes, workers=workers), workers=workers)
    loads = [plan.load(worker) for worker in range(workers)]
    assert sum(loads) == sum(share.flops for share in plan.shares)
    assert max(loads) - min(loads) <= max(share.flops for share in plan.shares)


@settings(max_examples=100, deadline=None)
@given(shapes, st.integers(2, 9), st.sampled_from(list(LAYOUTS)), st.booleans())
def test_the_bytes_of_all_workers_never_exceed_what_travels_once_each_way(
    named_shapes: list[tuple[str, tuple[int, ...]]], workers: int, kind: str, reduces: bool
) -> None:
    layout = LAYOUTS[kind](named_shapes, workers=workers)
    plan = plan_for(named_shapes, layout, workers=workers, reduces=reduces and kind == "whole")
    sent = sum(plan.traffic(worker).total for worker in range(workers))
    if kind == "whole":
        assert sent == pytest.approx(workers * plan.bytes_floor())
    else:
        assert sent <= 8 * sum(share.matrix.numel for share in plan.shares)


@settings(max_examples=50, deadline=None)
@given(shapes, st.integers(1, 9), st.sampled_from(list(LAYOUTS)))
def test_the_same_layout_gives_the_same_plan_and_digest(
    named_shapes: list[tuple[str, tuple[int, ...]]], workers: int, kind: str
) -> None:
    plans = [
        plan_for(named_shapes, LAYOUTS[kind](named_shapes, workers=workers), workers=workers)
        for _ in range(2)
    ]
    assert plans[0] == plans[1]
    assert plans[0].digest == plans[1].digest


def test_the_digest_sees_a_moved_cut() -> None:
    matrices = [("w", (4, 4))]
    one, other = (
        plan_for(matrices, {"w": ((0, cut), (cut, 16))}, workers=2).digest for cut in (7, 8)
    )
    assert one != other


@settings(max_examples=50, deadline=None)
@given(shapes, st.integers(1, 4), st.sampled_from(list(LAYOUTS)))
def test_a_bucket_has_one_shape(
    named_shapes: list[tuple[str, tuple[int, ...]]], workers: int, kind: str
) -> None:
    plan = plan_for(named_shapes, LAYOUTS[kind](named_shapes, workers=workers), workers=workers)
    for bucket in plan.buckets:
        matrices = [plan.shares[i].matrix for i in bucket.indices]
        assert {(m.rows, m.columns) for m in matrices} == {(bucket.rows, bucket.columns)}


def test_the_experts_of_one_tensor_are_spread_over_the_workers() -> None:
    plan = plan_for([("up", (8, 4, 6))], whole_layout([("up", (8, 4, 6))], workers=4), workers=4)
    owners = [share.owner for share in plan.shares]
    assert sorted(owners) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_matrices_held_by_one_worker_stay_there_and_cost_no_bytes() -> None:
    named_shapes = [("up", (8, 4, 6)), ("down", (8, 6, 4))]
    plan = plan_for(named_shapes, row_layout(named_shapes, workers=4), workers=4)
    assert [plan.traffic(worker).total for worker in range(4)] == [0, 0, 0, 0]


def test_more_workers_than_matrices_leave_some_without_work() -> None:
    plan = plan_for([("w", (4, 6))], slice_layout([("w", (4, 6))], workers=7), workers=7)
    assert sorted(plan.load(worker) > 0 for worker in range(7)) == [False] * 6 + [True]


def test_the_floors_are_those_of_data_parallelism_and_of_sharded_weights() -> None:
    named_shapes = [("a", (8, 8)), ("b", (8, 8)), ("c", (8, 8)), ("d", (8, 8))]
    bytes_of_all = 4 * 64 * 4
    for workers in (2, 4):
        whole = whole_layout(named_shapes, workers=workers)
        reduced = plan_for(named_shapes, whole, workers=workers, reduces=True)
        assert reduced.bytes_floor() == pytest.approx(2 * bytes_of_all * (workers - 1) / workers)
        sliced = plan_for(
            named_shapes, slice_layout(named_shapes, workers=workers), workers=workers
        )
        assert sliced.bytes_floor() == pytest.approx(2 * bytes_of_all * (workers - 1) / workers**2)
        for plan in (reduced, sliced):
            sent = [plan.traffic(worker).total for worker in range(workers)]
            assert sum(sent) / workers == pytest.approx(plan.bytes_floor())


def test_everyone_orthogonalises_whole_matrices_that_are_not_shared() -> None:
    layout = whole_layout([("w", (4, 6))], workers=3)
    plan = plan_for([("w", (4, 6))], layout, workers=3, share_whole=False)
    assert plan.shares[0].owner == EVERYONE
    assert plan.traffic(0).total == 0


@pytest.mark.parametrize(
    "ranges", [((0, 10), (12, 24)), ((0, 14), (12, 24)), ((0, 24), (0, 12)), ((0, 12), (12, 20))]
)
def test_gaps_and_overlaps_are_refused(ranges: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="together they must hold each element once"):
        plan_for([("w", (4, 6))], {"w": ranges}, workers=2)


def test_a_layout_for_another_number_of_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="2 ranges of w for 3 workers"):
        plan_for([("w", (4, 6))], whole_layout([("w", (4, 6))], workers=2), workers=3)


def test_bytes_between_nodes_are_those_to_workers_elsewhere() -> None:
    layout = whole_layout([("w", (8, 4, 6))], workers=4)
    plan = plan_for([("w", (8, 4, 6))], layout, workers=4, nodes=(0, 0, 1, 1))
    # Each worker owns two matrices and gives both, 4 bytes an element, to one neighbour and two
    # workers elsewhere.
    for worker in range(4):
        traffic = plan.traffic(worker)
        assert traffic.within_node == 2 * 24 * 4
        assert traffic.between_nodes == 2 * 2 * 24 * 4


def test_whole_matrices_are_dealt_evenly_and_the_rest_moves_alone() -> None:
    layout = whole_layout([("w", (7, 4, 6))], workers=3)
    plan = plan_for([("w", (7, 4, 6))], layout, workers=3)
    found = {bucket.exchange: len(bucket.indices) for bucket in plan.buckets}
    assert found == {"reduce_scatter": 6, "all_to_all": 1}


def test_buckets_come_in_the_order_in_which_gradients_arrive() -> None:
    named_shapes = [("first", (4, 4)), ("second", (2, 6)), ("third", (3, 3))]
    plan = plan_for(named_shapes, whole_layout(named_shapes, workers=1), workers=1)
    order = [plan.shares[bucket.indices[0]].matrix.parameter for bucket in plan.buckets]
    assert order == ["third", "second", "first"]


@pytest.mark.parametrize(
    ("nodes", "pairwise", "expected"),
    [
        ((0, 0, 0, 0), True, "owner"),
        ((0, 1), True, "owner"),
        ((0, 0, 1, 1), True, "node"),
        ((0, 0, 1, 1), False, "owner"),
    ],
)
def test_work_is_shared_where_fewest_bytes_leave_a_node(
    nodes: tuple[int, ...], pairwise: bool, expected: str
) -> None:
    assert best_sharing(nodes, pairwise=pairwise) == expected
