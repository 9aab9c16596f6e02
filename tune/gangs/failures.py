"""What went wrong in a worker, in plain values: of the code, of memory, or of the machine."""

from __future__ import annotations

import re
import traceback
from typing import Any

from harness.runs.attempts import AttemptEnd

LOST_PEER = re.compile(
    r"connection (closed|reset|refused|aborted)|broken pipe|timed out waiting|application timeout"
    r"|no route to host|network is unreachable|remote process exited|heartbeat|ncclremoteerror"
    r"|ncclsystemerror|connectfullmesh|address already in use",
    re.IGNORECASE,
)
"""How gloo and NCCL say, in a plain RuntimeError, that a peer or the network is gone."""

NO_MEMORY = re.compile(r"can't allocate memory|cuda out of memory|out of memory", re.IGNORECASE)
"""The CPU allocator raises a plain RuntimeError."""

PARTICULARS = re.compile(r"(/[\w.\-]+)+|0x[0-9a-f]+|\b[0-9a-f]{8,}\b|[0-9]+")
"""What differs between two failures that are the same: paths, addresses, ids, numbers."""

LONGEST_REASON = 2000


def describe(error: BaseException) -> dict[str, Any]:
    """`end`, `cause`, `signature` and `traceback` of an exception in a worker."""
    cause = f"{type(error).__name__}: {error}"[:LONGEST_REASON]
    return {
        "end": end_of(error),
        "cause": cause,
        "signature": signature(cause),
        "traceback": "".join(traceback.format_exception(error, limit=-8)),
    }


def end_of(error: BaseException) -> AttemptEnd:
    """Whose failure it is. What nobody can know to be the machine's is the code's."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError) or NO_MEMORY.search(str(error)):
        return "out_of_memory"
    lost = isinstance(error, RuntimeError) and LOST_PEER.search(str(error))
    if lost or isinstance(error, OSError | torch.distributed.DistError):
        return "machine"
    return "error"


def signature(cause: str) -> str:
    """The same for two failures that differ only in paths, addresses, ids and numbers."""
    return PARTICULARS.sub("#", cause)[:300]
