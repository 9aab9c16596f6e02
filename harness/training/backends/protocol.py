"""The protocol between the training loop and what holds the weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from harness.training.backends.inspection import Inspection
from harness.training.pulse import Pulse
from models import ModelOutput
from optimizers import NamedOptimizer

# A peer that hangs is given up after this time. Torch's own default is 30 minutes.
COLLECTIVE_TIMEOUT_S = 180

# torch's word for a store that is there before the workers are; "False" is also read as unset.
OPEN_MEETING = "TORCHELASTIC_USE_AGENT_STORE"

MakeOptimizer = Callable[[list[tuple[str, nn.Parameter]]], NamedOptimizer]


@dataclass(frozen=True)
class WorkerContext:
    """Where one worker stands in its gang, where its tokens lie, and where its state goes.

    Args:
        local_rank: Its place among the members of the gang on its host, and its GPU among those
            that it sees.
        local_workers: Members of the gang on its host; by default all.
        cpus: Cores (threads) of this worker.
        gpus: Its share of one GPU; 0: it trains on the CPU.
        master_address, master_port: Where the gang meets.
        meeting_is_open: Whether a store listens there already; else worker 0 opens one.
        checkpoints: Folder of this trial's checkpoints: a path, the URI of a file system that
            pyarrow knows, or a `checkpoint.storage.Folder`; by default there are none on the way.
        checkpoint_every_minutes, checkpoint_every_steps, checkpoints_kept: `[checkpoints]` of the
            study file.
        resume_from: The checkpoint to continue, or a folder of them, named likewise; by default the
            trial starts at step 0.
        save_to: Folder for a checkpoint of the last step; by default nothing is saved.
        stop_at_step: The last step, if it is not the schedule's.
        pulse: Beaten by the training, for another thread of the worker.
    """

    dataset_path: Path
    rank: int = 0
    num_workers: int = 1
    local_rank: int = 0
    local_workers: int | None = None
    cpus: int = 1
    gpus: float = 0
    master_address: str = "127.0.0.1"
    master_port: int = 0
    meeting_is_open: bool = False
    checkpoints: Any = None
    checkpoint_every_minutes: float = 10.0
    checkpoint_every_steps: int | None = None
    checkpoints_kept: int = 2
    resume_from: Any = None
    save_to: str | Path | None = None
    stop_at_step: int | None = None
    pulse: Pulse = field(default_factory=Pulse, compare=False, repr=False)

    @classmethod
    def from_environment(cls, dataset_path: Path) -> WorkerContext:
        """The place that `torchrun` gave this process; a gang of one without it."""
        if "RANK" not in os.environ:
            return cls(dataset_path)
        return cls(
            dataset_path,
            rank=int(os.environ["RANK"]),
            num_workers=int(os.environ["WORLD_SIZE"]),
            local_rank=int(os.environ["LOCAL_RANK"]),
            local_workers=int(os.environ["LOCAL_WORLD_SIZE"]),
            master_address=os.environ["MASTER_ADDR"],
            master_port=int(os.environ["MASTER_PORT"]),
            meeting_is_open=os.environ.get(OPEN_MEETING) == "True",
        )

    def environment(self, *, alone: bool) -> dict[str, str]:
        """The variables that torch.distributed, Accelerate and DeepSpeed read.

        Args:
            alone: whether a gang of one does without a process group.
        """
        if self.num_workers == 1 and alone:
            return {}
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.num_workers),
            "LOCAL_RANK": str(self.local_rank),
            "LOCAL_WORLD_SIZE": str(self.local_workers or self.num_workers),
            "MASTER_ADDR": self.master_address,
            "MASTER_PORT": str(self.master_port),
            OPEN_MEETING: str(self.meeting_is_open),
        }


class Backend(Protocol):
    """Holds the model and the optimizer of one worker.

    `micro_step` runs forward and backward on this worker's rows and leaves in the gradients the
    mean over all workers and micro-batches; `update` clips and steps.
    """

    device: torch.device
    rank: int
    num_workers: int

    def prepare(self, model: nn.Module, make_optimizer: MakeOptimizer) -> NamedOptimizer:
        """Takes the model over and returns the one optimizer, bound to what this worker holds."""
        ...

    def micro_step(self, tokens_BT: Tensor, targets_BT: Tensor, *, last: bool) -> ModelOutput:
        """Forward and backward of one micro-batch; gradients are exchanged after the `last` one."""
        ...

    def update(self, *, clip_norm: float) -> Tensor:
        """Clips the raw gradient to `clip_norm` (0: no clipping), steps, clears the gradients.

        Returns the gradient's global L2 norm before clipping.
        """
        ...

    def evaluate(self, tokens_BT: Tensor, targets_BT: Tensor) -> ModelOutput:
        """Forward without gradients. Every worker must call it the same number of times."""
        ...

    def rehearse(self, tokens_BT: Tensor, targets_BT: Tensor) -> None:
        """Before the first step of a trial that goes on: what the library does once, and only then.

        Weights, optimizer and counters stay as they are.
        """
        ...

    def sum_over_workers(self, values: Tensor) -> Tensor:
        """The elementwise sum over the gang, the same on every worker."""
        ...

    def describe(self) -> dict[str, Any]:
        """What really runs: distributed type, world size, device. Checked by the preflight."""
        ...

    def inspect(self) -> Inspection:
        """What the library did with the prepared model. Checked by the preflight."""
        ...

    def forward_weights(self) -> dict[str, Tensor]:
        """Parameter name -> what this worker holds of the weights that the forward pass reads.

        A library may give the optimizer a copy of the weights: this is not that copy.
        """
        ...

    def publish_weights(self) -> None:
        """Makes the forward pass read what the optimizer's fragments hold now. A collective call.

        Needed when somebody wrote into them outside of a step, as for an evaluation.
        """
        ...

    def close(self) -> None:
        """Gives back the process group and every process-wide singleton."""
        ...
