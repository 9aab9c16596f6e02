"""What a worker loads before its first step: every second of it is paid in every worker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness.data import prepare
from harness.study.load import load_study

# DTensor takes a second to import, torch's compiler another; the others are of other backends,
# of the driver, or of the preparation of the data.
NOT_NEEDED = (
    "torch.distributed.tensor",
    "torch._dynamo",
    "sympy",
    "deepspeed",
    "transformers",
    "datasets",
    "pandas",
    "scipy",
    "ray",
    "mlflow",
    "matplotlib",
)
WORKER = f"""
import sys
from pathlib import Path

from harness.training.backends.protocol import WorkerContext
from harness.data import prepare
from harness.training.loop import train
from harness.study.load import load_study
from harness.study.trial import trial_spec

study = load_study(Path(sys.argv[1]))
dataset = prepare(study.data)
spec = trial_spec(study, study.variants[1], 0, dataset.manifest.sha256)
for report in train(spec, WorkerContext(dataset.path)):
    pass
print([name for name in {NOT_NEEDED!r} if name in sys.modules])
"""


def test_a_ddp_worker_loads_nothing_that_it_does_not_use(study_file: Path) -> None:
    prepare(load_study(study_file).data)
    command = [sys.executable, "-c", WORKER, str(study_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
