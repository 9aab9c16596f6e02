"""DeepSpeed on this node: does it open on a CPU, and does its one compiled operator load?

optbench's trials compile nothing, so that operator (an all-reduce over shared memory, for
inference) is no condition of a study. Other programs of the same environment may want it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from tune.checks.findings import Finding, failure, ok, warning

CHECK = "DeepSpeed's operator"
LOAD_S, BUILD_S = 120.0, 300.0
"""A build took 43 s alone on two cores, and 87 s beside other programs."""

# In a process of its own: DeepSpeed reads DS_ACCELERATOR when it is imported, and a build that
# waits for a lock waits for ever.
SCRIPT = """
import sys
from pathlib import Path
import torch
from deepspeed.ops.op_builder.cpu.comm import ShareMemCommBuilder
from torch.utils.cpp_extension import get_default_build_root
import os
builder = ShareMemCommBuilder()
root = os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root()
built = [*Path(root).rglob(f"{builder.name}.so")] if Path(root).is_dir() else []
print("IMPORTED", flush=True)
if built or sys.argv[1] == "build":
    builder.load(verbose=False)
    print("LOADED", flush=True)
"""


def operator_here(*, build: bool = False) -> Finding:
    """Of the machine where this is called; takes seconds.

    Args:
        build: compile the operator where that was not done yet, which takes a minute.
    """
    environment = {**os.environ, "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-c", SCRIPT, "build" if build else "load"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            timeout=BUILD_S if build else LOAD_S,
        )
    except subprocess.TimeoutExpired as late:
        said, error = str(late.stdout or b""), f"no answer within {late.timeout:.0f} s"
    else:
        said, error = done.stdout, _last_line(done.stderr) if done.returncode else ""
    return judge(said, error, compilers=_compilers())


def judge(said: str, error: str, *, compilers: str) -> Finding:
    """Args:
    said: what the process has printed.
    error: the last line of its error, or empty.
    """
    if "IMPORTED" not in said:
        advice = "install the versions of constraints.txt: trials with backend = deepspeed fail"
        return failure(CHECK, f"DeepSpeed cannot be imported: {error}", advice)
    if error:
        return warning(
            CHECK,
            f"it does not load: {error}",
            f"no trial of optbench needs it; for other programs: {compilers}, and delete "
            "deepspeed_shm_comm under TORCH_EXTENSIONS_DIR (~/.cache/torch_extensions)",
        )
    if "LOADED" in said:
        return ok(CHECK, "it is compiled and loads")
    return ok(CHECK, f"not compiled, and no trial needs it ({compilers})")


def _compilers() -> str:
    missing = [name for name in ("g++", "ninja") if shutil.which(name) is None]
    return f"needs {' and '.join(missing)} on the PATH" if missing else "g++ and ninja are there"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it ended without a word"])[-1][:200]
