"""What is deployed: the cluster launcher's file, KubeRay's manifests and the image, checked without a cloud."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FIELDS = yaml.safe_load((Path(__file__).parent / "kuberay_v1_fields.yaml").read_text())
MANIFESTS = sorted((ROOT / "deploy" / "kuberay").glob("*.yaml"))
RAY = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]


@pytest.fixture
def cluster():
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def test_ray_itself_accepts_the_cluster(cluster):
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(cluster)
    validate_config(prepared)
    with pytest.raises(Exception, match="was unexpected"):
        validate_config({**prepared, "max_wrokers": 3})


def test_the_cluster_is_closed_and_pinned(cluster):
    head, worker = cluster["head_start_ray_commands"][-1], cluster["worker_start_ray_commands"][-1]
    assert "--dashboard-host=127.0.0.1" in head
    assert "RAY_AUTH_MODE=token" in head
    assert "RAY_AUTH_MODE=token" in worker
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    assert cluster["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"
    assert all(f":{RAY}-" in cluster["docker"][image] for image in ("head_image", "worker_image"))
    assert "-c /home/ray/moe-safety/constraints.txt" in cluster["setup_commands"][0]
    assert cluster["available_node_types"]["gpu"]["min_workers"] == 0
    assert cluster["available_node_types"]["head"]["resources"]["CPU"] == 0


def check(value, name, where):
    """Every key of `value`, which stands at field `name`, is one that the CRD knows."""
    allowed = FIELDS.get(where) or FIELDS.get(name)
    if isinstance(value, list):
        for one in value:
            check(one, name, where)
    elif isinstance(value, dict) and allowed:
        for key, inner in value.items():
            assert key in allowed, f"{where}.{key} is no field of KubeRay's v1"
            check(inner, key, f"{name}.{key}")


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_kuberay_knows_every_field(path):
    manifest = yaml.safe_load(path.read_text())
    assert manifest["apiVersion"] == "ray.io/v1"
    check(manifest, manifest["kind"], manifest["kind"])
    spec = manifest["spec"].get("rayClusterSpec", manifest["spec"])
    assert spec["rayVersion"] == RAY
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    with pytest.raises(AssertionError, match="workerGroupSpec is no field"):
        check({**manifest, "spec": {**manifest["spec"], "workerGroupSpec": []}}, manifest["kind"], manifest["kind"])


def test_both_kinds_of_manifest_are_there():
    assert {yaml.safe_load(path.read_text())["kind"] for path in MANIFESTS} == {"RayCluster", "RayJob"}


def test_the_image_is_pinned():
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    assert f"rayproject/ray:{RAY}-" in text
    assert "-c constraints.txt" in text
    assert "RAY_AUTH_MODE=token" in text
    for source in re.findall(r"^COPY --chown=\S+ (.*) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in source.split())


def test_nothing_that_is_deployed_holds_a_secret():
    for path in [ROOT / "cluster.yaml", ROOT / "deploy" / "Dockerfile", *MANIFESTS]:
        assert not re.search(r"(?i)(secret_access_key|auth_token|password)\s*[=:]\s*[\w\"']{8}", path.read_text())
