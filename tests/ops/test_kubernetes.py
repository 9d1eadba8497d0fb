"""ops/kubernetes/ against the schemas of Kubernetes, as a package has them, and against this repository."""

import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.venvs import venv_of
from tests.repository import ROOT

FOLDER = ROOT / "ops" / "kubernetes"
OF_KUBERNETES = ("v1", "batch/v1")


@pytest.fixture(scope="module")
def validator() -> Path:
    """Returns kubernetes-validate of a venv of its own, kept from run to run in the user's cache."""
    return venv_of("kubernetes", FOLDER / "requirements.lock") / "bin" / "kubernetes-validate"


def documents() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for path in sorted(FOLDER.glob("*.yaml")):
        found += [(path.name, document) for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
    return found


def pod_specs(value: Any) -> Iterator[dict[str, Any]]:
    """Yields every pod's spec in a document."""
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        for inner in value.values():
            yield from pod_specs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from pod_specs(inner)


@pytest.mark.cluster
@pytest.mark.timeout(1200)
def test_the_manifests_and_all_of_their_pods_are_valid(validator: Path, tmp_path: Path) -> None:
    checked = [document for _, document in documents() if document["apiVersion"] in OF_KUBERNETES]
    # The operators' own kinds have no schema in the package, but the pods in them have.
    pods = [spec for _, document in documents() for spec in pod_specs(document)]
    checked += [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec} for spec in pods]
    assert (len(checked), len(pods)) == (5, 3)
    for number, document in enumerate([*checked, {**checked[1], "spec": {"schedul": "* * * * *"}}]):
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        command = [str(validator), "--strict", "--no-warn", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == (number < len(checked)), done.stdout + done.stderr


def test_what_the_manifests_name_is_there() -> None:
    kinds = {document["kind"]: document for _, document in documents()}
    assert set(kinds) == {"PersistentVolumeClaim", "CronJob", "SparkApplication", "MPIJob"}
    spark = kinds["SparkApplication"]["spec"]
    home = "/opt/esmm_spark/"
    assert (ROOT / spark["mainApplicationFile"].removeprefix(f"local://{home}")).is_file()
    assert spark["sparkVersion"] == version("pyspark")
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"WORKDIR {home.rstrip('/')}\n" in dockerfile
    assert spark["sparkConf"]["spark.pyspark.python"].startswith(f"{home}.venv/bin/")
    for spec in pod_specs(kinds):
        for container in spec["containers"]:
            assert container["image"] == "esmm_spark"
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted <= {volume["name"] for volume in spec["volumes"]}
    words = " ".join(word for spec in pod_specs(kinds) for c in spec["containers"] for word in c["command"])
    for name in ("ops/daily.sh", "esmm_spark/train.py"):
        assert name in words
        assert (ROOT / name).is_file()
