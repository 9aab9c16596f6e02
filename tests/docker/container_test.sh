#!/bin/bash
# Builds the image and runs docker/compose.yaml with Podman: PostgreSQL, MLflow with passwords, a head,
# two workers, a short study. `make container-test` runs it; it removes the containers and volumes it
# made, and keeps the image.
#
#   CONTAINER_BUILD_FLAGS   more words for `podman build`, such as --build-arg=TORCH_INDEX=
#   CONTAINER_IMAGE_READY=1 the image is there: build none
set -euo pipefail
cd "$(dirname "$0")/../.."

for tool in podman podman-compose; do
  if ! command -v "$tool" > /dev/null; then
    echo "$tool is not installed, so no container was built or run: install podman (apt-get install" \
      "podman netavark) and podman-compose (pip install podman-compose), then run this again" >&2
    exit 2
  fi
done

image="optbench:$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)"
project="optbench-test-$$"
secret() { od -vAn -N32 -tx1 /dev/urandom | tr -d ' \n'; }
POSTGRES_PASSWORD="$(secret)" MLFLOW_ADMIN_PASSWORD="$(secret)" MLFLOW_SECRET_KEY="$(secret)"
RAY_AUTH_TOKEN="$(secret)"
export POSTGRES_PASSWORD MLFLOW_ADMIN_PASSWORD MLFLOW_SECRET_KEY RAY_AUTH_TOKEN

compose() { podman-compose -p "$project" -f docker/compose.yaml "$@"; }
say() { echo "container-test: $*"; }

clean_up() {
  code=$?
  if ((code != 0)); then
    for name in $(podman ps --all --filter "name=^${project}_" --format '{{.Names}}'); do
      say "the last lines of $name:"
      podman logs --tail 30 "$name" 2>&1 || true
    done
  fi
  podman ps --all --quiet --filter "name=^${project}_" | xargs --no-run-if-empty podman rm --force \
    > /dev/null
  compose down --volumes > /dev/null 2>&1 || true
}
trap clean_up EXIT

# Podman runs health checks by systemd's timers, and there may be no systemd: they are asked here.
start() {
  local service="$1" name deadline=$((SECONDS + 180))
  compose up --detach --no-deps --no-build "$service" > /dev/null
  for name in $(podman ps --filter "name=^${project}_${service}_" --format '{{.Names}}'); do
    until podman healthcheck run "$name" > /dev/null 2>&1; do
      if ((SECONDS > deadline)); then
        say "$name is not healthy: $(podman healthcheck run "$name" 2>&1)"
        return 1
      fi
      sleep 1
    done
    say "$name is healthy ($SECONDS s)"
  done
}

if [[ -z ${CONTAINER_IMAGE_READY:-} ]]; then
  # shellcheck disable=SC2086  # several words are meant
  podman build --format docker ${CONTAINER_BUILD_FLAGS:-} -f docker/Dockerfile -t "$image" .
  say "built $image ($SECONDS s)"
fi

for service in postgres mlflow head worker; do
  start "$service"
done
mlflow="$(podman ps --filter "name=^${project}_mlflow_" --format '{{.Names}}')"
postgres="$(podman ps --filter "name=^${project}_postgres_" --format '{{.Names}}')"

say "without a password MLflow answers 401, under another name 403"
for expected in 401 403; do
  podman exec --interactive "$mlflow" python - "$expected" <<'EOF'
import base64, os, sys, urllib.error, urllib.request

expected = int(sys.argv[1])
word = base64.b64encode(f"admin:{os.environ['MLFLOW_AUTH_ADMIN_PASSWORD']}".encode()).decode()
headers = {401: {"Host": "mlflow:5000"}, 403: {"Host": "x:1", "Authorization": f"Basic {word}"}}
url = "http://127.0.0.1:5000/api/2.0/mlflow/experiments/search?max_results=1"
try:
    urllib.request.urlopen(urllib.request.Request(url, headers=headers[expected]))
    sys.exit("it answered")
except urllib.error.HTTPError as error:
    assert error.code == expected, error
EOF
done

say "a study, on two workers ($SECONDS s)"
compose --profile study run --rm -T --no-deps study studies/quickstart.toml --set training.steps=20 \
  --set training.evaluation_every=10 --set 'seeds.confirmation=[0,1]'

query() {
  PGPASSWORD="$POSTGRES_PASSWORD" podman exec --env PGPASSWORD "$postgres" \
    psql --username=mlflow --no-align --tuples-only --command "$1"
}
runs="$(query "SELECT count(*) FROM runs WHERE lifecycle_stage = 'active'")"
twice="$(query "SELECT count(*) FROM (SELECT 1 FROM metrics GROUP BY run_uuid, key, step HAVING count(*) > 1) t")"
say "PostgreSQL holds $runs runs, $twice points twice ($SECONDS s)"
((runs > 0 && twice == 0))
