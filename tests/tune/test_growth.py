"""Up to what a cluster can grow is read from its autoscaler, before anything waits for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from idle_trials import answer_of

from harness.errors import UserError
from harness.study.placement import ResourcesConfig
from tune.cluster.capacity import Capacity, Growth, can_come, check_fits, trials_at_once
from tune.cluster.growth import UNKNOWN, from_autoscaler, from_cluster_config, growth_here

SCRIPT = Path(__file__).with_name("growing_cluster.py")
HEAD = {"resources": {"CPU": 0}, "max_workers": 0}
CPU = {"resources": {"CPU": 4}, "min_workers": 0, "max_workers": 3}
GPU = {"resources": {"CPU": 8, "GPU": 2}, "min_workers": 0, "max_workers": 2}


def config(**kinds: object) -> dict[str, object]:
    types = {"head": HEAD, **kinds}
    return {"head_node_type": "head", "max_workers": 4, "available_node_types": types}


def cluster(growth: Growth | None, *nodes: tuple[float, float]) -> Capacity:
    return Capacity(nodes=nodes or ((0, 0),), where="this cluster", growth=growth)


def test_the_groups_of_an_autoscaler_count_as_far_as_all_of_them_may_grow() -> None:
    growth = from_autoscaler(config(cpu=CPU, gpu=GPU))
    assert growth == Growth(groups=((4, 0, 3), (8, 2, 2)), most_nodes=4)
    assert growth.gangs(ResourcesConfig(workers=1)) == 8 + 8 + 4 + 4, "the larger nodes first"
    assert growth.gangs(ResourcesConfig(workers=2, gpus_per_worker=1)) == 2
    assert str(growth) == (
        "3 node(s) of 4 CPU core(s) and 2 node(s) of 8 CPU core(s) and 2 GPU(s), 4 node(s) in all"
    )


def test_a_provider_that_looks_resources_up_itself_says_nothing() -> None:
    growth = from_autoscaler(config(cpu={"resources": {}, "max_workers": 3}))
    assert growth == UNKNOWN
    wide = ResourcesConfig(cpus_per_worker=64)
    check_fits(wide, cluster(growth))
    assert trials_at_once(wide, cluster(growth), most=None) == 2


def test_what_ray_itself_was_told_is_understood() -> None:
    groups = [SimpleNamespace(resources={"CPU": 2.0}, max_count=-1)]
    growth = from_cluster_config(SimpleNamespace(node_group_configs=groups))
    assert can_come(ResourcesConfig(workers=100), cluster(growth))
    assert not can_come(ResourcesConfig(cpus_per_worker=3), cluster(growth))


def test_a_gang_that_even_the_grown_cluster_cannot_hold_is_refused() -> None:
    growth = from_autoscaler(config(cpu=CPU))
    check_fits(ResourcesConfig(workers=12), cluster(growth))
    for resources in ({"workers": 13}, {"cpus_per_worker": 5}, {"gpus_per_worker": 1}):
        with pytest.raises(UserError, match=r"can grow to 3 node\(s\) of 4 CPU core"):
            check_fits(ResourcesConfig(**resources), cluster(growth))  # type: ignore[arg-type]
    packed = ResourcesConfig(workers=5, placement="strict_pack")
    with pytest.raises(UserError, match="all on one node"):
        check_fits(packed, cluster(growth))


def test_as_many_trials_wait_as_the_grown_cluster_holds_and_no_endless_number() -> None:
    one = ResourcesConfig()
    growth = from_autoscaler(config(cpu=CPU))
    assert trials_at_once(one, cluster(growth), most=None) == 12
    assert trials_at_once(one, cluster(growth), most=5) == 5
    assert trials_at_once(one, cluster(growth), most=None, studies=2) == 6
    endless = Growth(groups=((1, 0, 2**31),), most_nodes=2**31)  # KubeRay's own default
    assert trials_at_once(one, cluster(endless, (3, 0)), most=None) == 3 + 200


def test_a_machine_without_an_autoscaler_says_so() -> None:
    assert growth_here("session_that_is_not") is None


@pytest.mark.faults
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_study_starts_on_a_head_without_cores_and_has_what_the_cluster_grew_to(
    version: str, study_file: Path, tmp_path: Path
) -> None:
    seen = answer_of(SCRIPT, study_file, tmp_path, version)
    assert seen["growth"] == "3 node(s) of 2 CPU core(s), 2 node(s) in all"
    assert "one trial needs 1 worker(s) with 3 CPU core(s) each" in seen["too wide"]
    assert "one trial needs 5 worker(s)" in seen["too many"]
    assert seen["can come"] is None
    assert seen["at once"] == 2, "two gangs of two workers on two nodes of two cores"
    assert len(seen["said"]) <= 1, "none where the nodes come within seconds"
    for line in seen["said"]:
        assert line.startswith("waiting for the cluster to grow: this cluster has no CPU core")
