# Needs Python 3.11 or newer with pip and venv, make, and g++ (DeepSpeed compiles on CPU).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export MLFLOW_DISABLE_TELEMETRY := true
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: help install quickstart suite test faults cluster-test container-test lint format docs bench scale gpu clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

install: $(STAMP)  ## set up .venv with the exact versions of constraints.txt

# torch comes through pip, so that a local or preconfigured index is honoured; uv then installs the
# rest in parallel, about twice as fast as pip.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch uv
	DS_BUILD_OPS=0 $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode \
		-c constraints.txt -e '.[dev]'
	touch $@

quickstart: $(STAMP)  ## set up, then run the first study: Muon against AdamW on real text
	$(BIN)/optbench run studies/quickstart.toml

suite: $(STAMP)  ## set up, then run a suite: three optimizers on three small tasks, to the leaderboard
	$(BIN)/optbench run studies/suite-quickstart.toml

test: $(STAMP)  ## set up, then run the whole test suite, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

faults: $(STAMP)  ## real faults in real processes: servers and workers that die or stand still
	$(BIN)/python -m pytest -m faults

cluster-test: $(STAMP)  ## a study on several hosts (network namespaces) that are lost; as root on Linux
	$(BIN)/python -m pytest -n 0 -q -s -m cluster tests/cluster

container-test: $(STAMP)  ## with Podman: build the image, run docker/compose.yaml and a study on it
	PATH="$(BIN):$$PATH" tests/docker/container_test.sh

lint: $(STAMP)  ## formatting, style, types, import contracts, files of clusters
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint docker/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker/compose.yaml
	$(BIN)/kubernetes-validate --strict --quiet --kubernetes-version 1.33 docker/kubernetes.yaml
	$(BIN)/check-jsonschema --schemafile docker/schemas/rayjob.json docker/kuberay.yaml
	$(BIN)/shellcheck docker/slurm.sh tests/docker/container_test.sh

format: $(STAMP)  ## reformat and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)  ## rewrite the generated reference pages
	$(BIN)/python docs/generate.py

bench: $(STAMP)  ## ratios against peers: throughput, loop overhead, orchestration, Muon
	$(BIN)/python benchmarks/training_throughput.py
	$(BIN)/python benchmarks/loop_overhead.py
	$(BIN)/python benchmarks/checkpoint_overhead.py
	$(BIN)/python benchmarks/orchestration.py
	$(BIN)/python benchmarks/newton_schulz.py
	$(BIN)/python benchmarks/distributed_muon.py

scale: $(STAMP)  ## how a study grows: 10 to 1,000 trials that train nothing, 10,000 made-up results
	$(BIN)/python benchmarks/scale.py

gpu: $(STAMP)  ## on a machine with a GPU: conformance, benchmarks, short studies
	$(BIN)/python benchmarks/gpu.py

clean:  ## remove the environment and every cache (results in runs/ stay)
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
