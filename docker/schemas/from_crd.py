"""Makes a JSON schema of a Kubernetes custom resource definition, which needs no cluster.

    python docker/schemas/from_crd.py ray.io_rayjobs.yaml v1 > docker/schemas/rayjob.json

Keys that the definition does not name are errors, as for `kubectl apply --validate=strict`. Parts
that occur more than once, such as the templates of pods, are written once.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

SHORTEST_SHARED = 300
"""Characters: a shorter part stays where it is, which reads better and costs little."""


def strict(schema: Any) -> Any:
    """Without Kubernetes' own keywords, and closed to keys that it does not name."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {
        key: {name: strict(part) for name, part in value.items()}
        if key == "properties"
        else strict(value)
        for key, value in schema.items()
        if key == "properties" or not key.startswith(("x-kubernetes-", "description", "format"))
    }
    is_open = schema.get("x-kubernetes-preserve-unknown-fields", False)
    if "properties" in closed and not is_open:
        closed.setdefault("additionalProperties", False)
    return closed


def shared(schema: Any) -> dict[str, Any]:
    """The same schema with every long part that repeats in `$defs`."""
    counts: Counter[str] = Counter()

    def count(part: Any) -> None:
        for value in _parts(part):
            text = json.dumps(value, sort_keys=True)
            if isinstance(value, dict) and len(text) >= SHORTEST_SHARED:
                counts[text] += 1
            if counts[text] < 2:
                count(value)

    names: dict[str, str] = {}
    definitions: dict[str, Any] = {}

    def refer(part: Any) -> Any:
        if isinstance(part, list):
            return [refer(item) for item in part]
        if not isinstance(part, dict):
            return part
        text = json.dumps(part, sort_keys=True)
        if counts[text] < 2:
            return {key: refer(value) for key, value in part.items()}
        if text not in names:
            names[text] = f"part{len(names) + 1}"
            definitions[names[text]] = {key: refer(value) for key, value in part.items()}
        return {"$ref": f"#/$defs/{names[text]}"}

    count(schema)
    return {**refer(schema), "$defs": definitions}


def _parts(schema: Any) -> list[Any]:
    if isinstance(schema, dict):
        return list(schema.values())
    return schema if isinstance(schema, list) else []


def main() -> None:
    definition, wanted = Path(sys.argv[1]), sys.argv[2]
    crd = yaml.load(definition.read_text(), Loader=yaml.CSafeLoader)
    (version,) = (v for v in crd["spec"]["versions"] if v["name"] == wanted)
    schema = strict(version["schema"]["openAPIV3Schema"])
    # Left open in a definition: the API server knows them.
    schema["properties"]["apiVersion"] = {"const": f"{crd['spec']['group']}/{wanted}"}
    schema["properties"]["kind"] = {"const": crd["spec"]["names"]["kind"]}
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    schema["properties"]["metadata"] = {"type": "object"}
    json.dump(shared(schema), sys.stdout, separators=(",", ":"), sort_keys=True)
    print()


if __name__ == "__main__":
    main()
