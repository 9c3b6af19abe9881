"""Manifests and images: what a cluster would say of them, and files that are there."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cryoscale import __version__
from cryoscale.cluster.credentials import make_credentials
from tests.cluster.crdschema import STORED, complaints, manifests

ROOT = Path(__file__).resolve().parents[2]
STORE = json.loads(STORED.read_text())
POD = STORE["schema"]["properties"]["spec"]["properties"]["worker"]["properties"]["spec"]
INSTRUCTIONS = {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "USER", "ENV", "CMD"}


def pods() -> dict[str, dict[str, Any]]:
    found = manifests()
    cluster = found["DaskCluster"]["spec"]
    return {
        "worker": cluster["worker"]["spec"],
        "scheduler": cluster["scheduler"]["spec"],
        "run": found["Job"]["spec"]["template"]["spec"],
    }


def test_the_operator_takes_the_cluster() -> None:
    cluster = manifests()["DaskCluster"]
    assert cluster["apiVersion"] == f"{STORE['group']}/{STORE['version']}"
    assert complaints({"spec": cluster["spec"]}, STORE["schema"]) == []


def test_the_job_is_one() -> None:
    """The pod by the operator's schema of pods; the few fields around it by hand, from batch/v1."""
    job = manifests()["Job"]
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec = job["spec"]
    assert spec.keys() == {"backoffLimit", "podReplacementPolicy", "podFailurePolicy", "template"}
    assert isinstance(spec["backoffLimit"], int)
    assert spec["podReplacementPolicy"] in ("TerminatingOrFailed", "Failed")
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"] == {"containerName": "run", "operator": "In", "values": [2, 3, 70]}
    assert spec["template"]["spec"]["restartPolicy"] == "Never", "a failure policy needs it"
    assert complaints(spec["template"]["spec"], POD) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("worker", "spec", "containers", 0, "resources", "limits", "nvidia.com/gpu"), 1),
        (("worker", "spec", "containers", 0, "args", 4), 1),
        (("worker", "spec", "containers", 0, "imagePulPolicy"), "Always"),
        (("worker", "replicas"), "4"),
        (("worker", "replica"), 4),
        (("scheduler", "service", "ports", 0, "port"), "8786"),
        (("scheduler", "spec", "volumes", 0, "nfs"), {"server": "x", "path": "/"}),
    ],
)
def test_what_a_cluster_would_refuse_is_seen(path: tuple[Any, ...], value: object) -> None:
    cluster = copy.deepcopy(manifests()["DaskCluster"])
    part = cluster["spec"]
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    assert complaints({"spec": cluster["spec"]}, STORE["schema"]) != []


def test_all_speak_tls_with_the_secret_s_certificates(tmp_path: Path) -> None:
    make_credentials(tmp_path / "tls", 1.0, mounted_at="/etc/cryoscale/tls")
    config = yaml.safe_load((tmp_path / "tls" / "dask.yaml").read_text())["distributed"]["comm"]
    assert config["tls"]["worker"]["key"] == "/etc/cryoscale/tls/worker-key.pem"
    for name, pod in pods().items():
        (container,) = pod["containers"]
        environment = {one["name"]: one.get("value") for one in container["env"]}
        assert environment["DASK_CONFIG"] == "/etc/cryoscale/tls/dask.yaml"
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounted["tls"] == "/etc/cryoscale/tls"
        assert {volume["name"] for volume in pod["volumes"]} >= mounted.keys()
        words = " ".join(container["args"])
        assert "tcp://" not in words
        assert ("tls://cryoscale-scheduler:8786" in words) == (name != "scheduler")
        assert ("--dashboard-address 127.0.0.1:" in words) == (name != "run")
        assert ("--preload cryoscale.cluster.dashboard" in words) == (name == "scheduler")
        assert container["image"] == f"cryoscale:{__version__}"


def test_no_service_leads_to_the_dashboard() -> None:
    service = manifests()["DaskCluster"]["spec"]["scheduler"]["service"]
    assert [port["port"] for port in service["ports"]] == [8786]


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (ROOT / "deploy" / "container" / "Dockerfile").read_text(), flags=re.MULTILINE)
    return [tuple(line.split(" ", 1)) for line in text.replace("\\\n", " ").splitlines() if line]  # type: ignore[misc]


def sections() -> dict[str, str]:
    text = re.sub(r"^#.*\n", "", (ROOT / "deploy" / "container" / "cryoscale.def").read_text(), flags=re.MULTILINE)
    header, *parts = re.split(r"^%(\w+)\n", text, flags=re.MULTILINE)
    return {"": header} | dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_image_is_built_from_files_that_are_there_and_pinned_versions() -> None:
    found = instructions()
    assert {name for name, _ in found} <= INSTRUCTIONS
    assert found[0] == ("FROM", "python:3.11-slim-bookworm")
    copied = [path for name, rest in found if name == "COPY" for path in rest.split()[:-1]]
    assert all((ROOT / path).exists() for path in copied)
    assert "-c deploy/constraints.txt" in next(rest for name, rest in found if name == "RUN")
    # Nothing is installed as the user that runs it, and nothing runs as root.
    order = [name for name, _ in found]
    assert order.index("USER") > order.index("RUN")
    assert ("USER", "1000") in found


def test_the_apptainer_definition_says_the_same() -> None:
    found = sections()
    assert found.keys() == {"", "files", "post", "environment", "runscript", "test"}
    header = dict(line.split(": ") for line in found[""].split("\n") if line)
    assert header == {"Bootstrap": "docker", "From": "python:3.11-slim-bookworm"}
    copied = [line.split()[0] for line in found["files"].splitlines() if line.strip()]
    assert copied == [path for name, rest in instructions() if name == "COPY" for path in rest.split()[:-1]]
    assert "pip install --no-cache-dir -c deploy/constraints.txt '.[cluster,cuda]'" in found["post"]
