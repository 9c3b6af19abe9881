"""What a cluster asks of our manifests: the schema of the Dask operator's own kind, cut to what they use.

``python -m tests.cluster.crdschema daskcluster.yaml > tests/cluster/daskcluster.json`` makes the stored schema anew
from the operator's definition (dask-kubernetes 2026.3.0, BSD-3-Clause, github.com/dask/dask-kubernetes,
``dask_kubernetes/operator/deployment/helm/dask-kubernetes-operator/crds/daskcluster.yaml``). Kept are names, types and
what is required; prose goes, and what lies below a field that no manifest uses becomes one word, ``unread``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
STORED = Path(__file__).with_name("daskcluster.json")
KEPT = ("type", "required", "enum", "format", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields")


def cut(schema: dict[str, Any], used: list[Any]) -> dict[str, Any]:
    """Return a schema without prose, and without the parts that none of the values in `used` has."""
    kept: dict[str, Any] = {name: schema[name] for name in KEPT if name in schema}
    maps = [value for value in used if isinstance(value, dict)]
    if "properties" in schema:
        if not maps:
            return kept | {"unread": True}
        kept["properties"] = {
            name: cut(part, [value[name] for value in maps if name in value])
            for name, part in schema["properties"].items()
        }
    if isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = cut(schema["additionalProperties"], [v for m in maps for v in m.values()])
    if "items" in schema:
        kept["items"] = cut(schema["items"], [one for value in used if isinstance(value, list) for one in value])
    return kept


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema as a cluster reads it: unknown names are errors, numbers may be text where said."""
    made = {name: part for name, part in schema.items() if name in ("type", "required", "enum")}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if schema.get("unread"):
        return {"not": {}}
    if "properties" in schema:
        made["properties"] = {name: strict(part) for name, part in schema["properties"].items()}
        made["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    if isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = strict(schema["additionalProperties"])
    if "items" in schema:
        made["items"] = strict(schema["items"])
    return made


def complaints(value: Any, schema: dict[str, Any]) -> list[str]:
    """What a cluster would say about a value."""
    return [
        f"{error.json_path}: {error.message[:200]}" for error in Draft202012Validator(strict(schema)).iter_errors(value)
    ]


def manifests() -> dict[str, dict[str, Any]]:
    """Every object of our manifests, by its kind."""
    return {
        one["kind"]: one
        for path in sorted(FOLDER.glob("*.yaml"))
        for one in yaml.safe_load_all(path.read_text())
        if one
    }


def main(path: str) -> None:
    definition = yaml.safe_load(Path(path).read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    objects = manifests()
    cluster = objects["DaskCluster"]
    # The pod of a job is a pod like a worker's.
    pod = {"spec": {"worker": {"spec": objects["Job"]["spec"]["template"]["spec"]}}}
    names = {"group": definition["spec"]["group"], "version": definition["spec"]["versions"][0]["name"]}
    json.dump(names | {"schema": cut(schema, [cluster, pod])}, sys.stdout, separators=(",", ":"))


if __name__ == "__main__":
    main(sys.argv[1])
