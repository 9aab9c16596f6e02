"""What gloo's collectives cost: why whole matrices move by all-to-all there.

    python benchmarks/collectives.py        # two workers, 10 M float32 elements

Medians over rounds of the slowest worker, in milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def collectives(elements: int, workers: int) -> dict[str, Callable[[], object]]:
    """By name, each on a tensor of all workers' elements or of this worker's part of them."""
    whole, other = torch.randn(2, elements).unbind()
    part = torch.randn(elements // workers)
    return {
        "all-to-all": lambda: dist.all_to_all_single(other, whole),
        "all-reduce": lambda: dist.all_reduce(whole, op=dist.ReduceOp.AVG),
        "all-gather": lambda: dist.all_gather_single(other, part),
        "reduce-scatter": lambda: dist.reduce_scatter_single(part, whole, op=dist.ReduceOp.AVG),
    }


def run_worker(rank: int, store: str, workers: int, elements: int, rounds: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=workers)
    for name, run in collectives(elements, workers).items():
        run()
        times = []
        for _ in range(rounds):
            dist.barrier()
            begin = time.perf_counter()
            run()
            slowest = torch.tensor(time.perf_counter() - begin)
            dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
            times.append(1e3 * float(slowest))
        if rank == 0:
            print(f"{name:<16}{statistics.median(times):8.1f} ms")
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--elements", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    elements = options.elements - options.elements % options.workers
    with tempfile.TemporaryDirectory() as folder:
        store = (Path(folder) / "store").as_uri()
        arguments = (store, options.workers, elements, options.rounds)
        mp.start_processes(run_worker, args=arguments, nprocs=options.workers, start_method="fork")


if __name__ == "__main__":
    main()
