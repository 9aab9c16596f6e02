"""What stands between a command and its first trial is not imported before it."""

from __future__ import annotations

import subprocess
import sys

BEFORE_RAY = (
    "import harness.cli.main, harness.cli.run_study, harness.study.load, harness.study.plan, "
    "harness.runs.plan_file, tune.cluster.capacity, tune.confirmation, tune.cluster.connection, sys"
)
SECONDS_TO_IMPORT = {"scipy", "torch", "pandas", "matplotlib", "mlflow", "accelerate"}


def test_a_run_reaches_ray_without_the_libraries_that_take_seconds() -> None:
    script = f"{BEFORE_RAY}; print(*sorted({SECONDS_TO_IMPORT!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr
