#!/bin/bash
# A study on a Slurm allocation: Ray's head and the driver on its first node, a Ray node on each other.
# Submit it from the root of the repository, where .venv is; the folder must be there on every node.
#
#   sbatch docker/slurm.sh studies/quickstart.toml
#   sbatch --nodes=4 --gpus-per-node=8 docker/slurm.sh STUDY --set resources.gpus_per_worker=1
#
# What follows the study goes to `optbench run`. Submit it again to go on with what is missing.
#SBATCH --job-name=optbench
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail

: "${1:?no study given: sbatch docker/slurm.sh STUDY [OPTION]...}"
: "${SLURM_JOB_ID:?this is no Slurm job: use sbatch, or optbench run on one machine}"
if [[ -x .venv/bin/optbench ]]; then
  PATH="$PWD/.venv/bin:$PATH"
fi

# Two addresses may lie behind a node's own name, one of them on its loopback, where nobody else
# finds it. On a node with several networks name the right one: HEAD_ADDRESS=10.1.2.3 sbatch ...
head_address() {
  local candidates
  candidates="$(getent ahostsv4 "$(hostname)" | cut -d' ' -f1; hostname -I | tr ' ' '\n')"
  grep --max-count=1 --invert-match -e '^127\.' -e '^$' <<< "$candidates"
}

# Several users and jobs may share a node, so no port is fixed: two free ones for the head here, and
# 0, any that is free, for all else.
free_ports() {
  python - <<'EOF'
import socket
held = [socket.create_server(("", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in held))
EOF
}

address="${HEAD_ADDRESS:-$(head_address)}"
read -r gcs_port client_port < <(free_ports)
folder="${TMPDIR:-/tmp}/ray-$SLURM_JOB_ID"
others=$((SLURM_JOB_NUM_NODES - 1))

# Whoever has the token can run code on this cluster. It travels in the environment, which other
# users cannot read, and on no command line, which they can.
RAY_AUTH_TOKEN="$(python -c 'import secrets; print(secrets.token_hex(32))')"
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_worker_niceness=0 RAY_USAGE_STATS_ENABLED=0

ray_node=(
  ray start --block --temp-dir="$folder"
  --num-cpus="${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}"
  --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0
)

me="${SLURMD_NODENAME:-$(hostname -s)}"
on_the_others=(
  srun --nodes="$others" --ntasks="$others" --ntasks-per-node=1 --exclude="$me" --export=ALL
)

driver=""
ray_nodes=()
clean_up() {
  trap - EXIT TERM INT
  if [[ -n $driver ]]; then
    kill -INT "$driver" 2> /dev/null || true  # it stops training and keeps what there is
    wait "$driver" || true
  fi
  for node in "${ray_nodes[@]}"; do
    kill -TERM "$node" 2> /dev/null || true
  done
  wait || true
  rm -rf "$folder"
  if ((others > 0)); then
    "${on_the_others[@]}" rm -rf "$folder" || true
  fi
}
trap clean_up EXIT
trap 'exit 143' TERM INT  # Slurm sends TERM two minutes before the time is over, as asked for above

"${ray_node[@]}" --head --node-ip-address="$address" --port="$gcs_port" \
  --ray-client-server-port="$client_port" --include-dashboard=false &
ray_nodes+=($!)

if ((others > 0)); then
  # One that dies does not end the others: its trials go on elsewhere.
  "${on_the_others[@]}" --cpus-per-task="${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}" \
    --kill-on-bad-exit=0 --wait=0 \
    "${ray_node[@]}" --address="$address:$gcs_port" &
  ray_nodes+=($!)
fi

python - "$address:$gcs_port" "$SLURM_JOB_NUM_NODES" <<'EOF'
import sys
import time

import ray

address, wanted = sys.argv[1], int(sys.argv[2])
deadline = time.monotonic() + 300
while True:
    try:
        ray.init(address, log_to_driver=False, logging_level="error")
        while (alive := sum(node["Alive"] for node in ray.nodes())) < wanted:
            if time.monotonic() > deadline:
                print(f"only {alive} of {wanted} nodes joined Ray: going on with these")
                break
            time.sleep(1)
        break
    except ConnectionError as error:
        if time.monotonic() > deadline:
            sys.exit(f"Ray's head did not start: {error}")
        time.sleep(1)
EOF

set -m  # without job control a background process is deaf to INT
optbench run "$@" --address "$address:$gcs_port" &
driver=$!
set +m
wait "$driver"
