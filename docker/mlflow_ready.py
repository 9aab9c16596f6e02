"""Health check, run beside the MLflow server: asks its API as the driver does, with its admin.

    python docker/mlflow_ready.py mlflow:5000       # the name by which the driver calls it

`/health` would not do: there MLflow wants no known name and no password, and asks no database.
"""

import base64
import os
import sys
import urllib.request

name = sys.argv[1]
user = f"admin:{os.environ['MLFLOW_AUTH_ADMIN_PASSWORD']}"
request = urllib.request.Request(
    f"http://127.0.0.1:{name.rpartition(':')[2]}/api/2.0/mlflow/experiments/search?max_results=1",
    headers={"Host": name, "Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"},
)
try:
    urllib.request.urlopen(request, timeout=8)
except OSError as error:
    sys.exit(f"{name}: {error}")
