"""Started by torchrun: trains several trials, one after another, and prints what they yield.

Usage: run_trials.py STUDY PORT:VARIANT[,KEY=VALUE ...] ...

Each trial has its own port: torchrun's own store can serve one process group only.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path

from harness.backends import WorkerContext
from harness.data import prepare
from harness.loop import train
from harness.study import find_variant, load_study, trial_spec

os.environ.pop("TORCHELASTIC_USE_AGENT_STORE", None)
results = {}
for request in sys.argv[2:]:
    port, _, request = request.partition(":")
    variant, *overrides = request.split(",")
    workers = f"resources.workers={os.environ['WORLD_SIZE']}"
    study = load_study(Path(sys.argv[1]), [*overrides, workers])
    dataset = prepare(study.data)
    spec = trial_spec(study, find_variant(study, variant), 0, dataset.manifest.sha256)
    context = WorkerContext.from_environment(dataset.path)
    training = train(spec, dataclasses.replace(context, master_port=int(port)))
    reports = []
    while True:
        try:
            reports.append(next(training).model_dump(mode="json"))
        except StopIteration as end:
            results[request] = {"reports": reports, "outcome": end.value.model_dump(mode="json")}
            break
if os.environ["RANK"] == "0":
    print(json.dumps(results))
