"""The files that launch clusters, checked as far as they can be without one."""

import copy
import importlib.metadata
import json
import re
import shlex
from typing import Any

import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from jobs.metrics import COUNTERS, GAUGES, LABELS, PREFIX
from pipeline.config_file import load
from tests.e2e.command import REPOSITORY

CLUSTERS = REPOSITORY / "configs" / "clusters"

# Fields of KubeRay's types, as of its release 1.5: ray-operator/apis/ray/v1/rayjob_types.go and raycluster_types.go.
# The operator drops what it does not know without a word.
RAY_JOB = {
    "activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint", "entrypointNumCpus",
    "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata", "rayClusterSpec", "runtimeEnvYAML",
    "shutdownAfterJobFinishes", "submissionMode", "submitterConfig", "submitterPodTemplate", "suspend",
    "ttlSecondsAfterFinished",
}  # fmt: skip
RAY_CLUSTER = {
    "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions", "headGroupSpec",
    "headServiceAnnotations", "managedBy", "rayVersion", "suspend", "workerGroupSpecs",
}  # fmt: skip
AUTOSCALER = {
    "env", "envFrom", "idleTimeoutSeconds", "image", "imagePullPolicy", "resources", "securityContext",
    "upscalingMode", "version", "volumeMounts",
}  # fmt: skip
HEAD_GROUP = {"enableIngress", "headService", "labels", "rayStartParams", "resources", "serviceType", "template"}
WORKER_GROUP = {
    "groupName", "idleTimeoutSeconds", "labels", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams",
    "replicas", "resources", "scaleStrategy", "suspend", "template",
}  # fmt: skip


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((CLUSTERS / name).read_text())


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_the_cluster_launcher_takes_the_file(name) -> None:
    config = read(name)
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    with pytest.raises(Exception, match="max_worker"):  # what it refuses, it refuses
        validate_config(prepared | {"max_worker": 1})
    types = config["available_node_types"]
    assert sum(kind.get("max_workers", 0) for kind in types.values()) <= config["max_workers"]
    assert {kind.get("labels", {}).get("pool") for kind in types.values()} == {None, "cpu", "gpu"}
    spot = {"aws.yaml": "InstanceMarketOptions", "gcp.yaml": "scheduling"}[name]
    assert {kind for kind, of in types.items() if spot in of["node_config"]} == {"cpu", "gpu"}


@pytest.fixture(scope="module")
def kuberay() -> dict[str, dict[str, Any]]:
    documents = yaml.safe_load_all((CLUSTERS / "kuberay.yaml").read_text())
    return {document["kind"]: document for document in documents}


def test_the_ray_job_has_kuberays_fields_and_sound_pods(kuberay) -> None:
    job = kuberay["RayJob"]
    assert job["apiVersion"] == "ray.io/v1"
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    assert set(spec) <= RAY_JOB
    assert set(cluster) <= RAY_CLUSTER
    assert set(cluster["autoscalerOptions"]) <= AUTOSCALER
    assert cluster["rayVersion"] == importlib.metadata.version("ray")
    head, workers = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert set(head) <= HEAD_GROUP
    assert {group["groupName"]: group["labels"] for group in workers} == {
        "cpu": {"pool": "cpu"},
        "gpu": {"pool": "gpu"},
    }
    for group in workers:
        assert set(group) <= WORKER_GROUP
        assert group["minReplicas"] <= group["maxReplicas"]
    for group in (head, *workers):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}} | {"spec": group["template"]["spec"]}
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    kubernetes_validate.validate(kuberay["ConfigMap"], kubernetes_validate.latest_version(), strict=True)


def test_the_jobs_of_kuberay_are_commands_of_a_sound_configuration(kuberay, tmp_path) -> None:
    job, files = kuberay["RayJob"]["spec"], kuberay["ConfigMap"]["data"]
    (tmp_path / "run.yaml").write_text(files["run.yaml"])
    assert job["entrypoint"] == "bash /config/run.sh"
    commands = [line for line in files["run.sh"].replace("\\\n", "").splitlines() if line.startswith("parrotscope ")]
    assert [shlex.split(line)[1:5] for line in commands[:2]] == [
        ["extract", "/config/run.yaml", "--only", part] for part in ("clip", "spot")
    ]
    assert shlex.split(commands[2])[1] == "profile"
    for line in commands:
        resources = load(tmp_path / "run.yaml", re.findall(r"--set (\S+)", line)).resources
        group = next(g for g in job["rayClusterSpec"]["workerGroupSpecs"] if g["groupName"] == resources.pool)
        holds = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert resources.autoscale
        assert resources.cpus_per_actor <= int(holds["cpu"])
        assert resources.gpus_per_actor <= int(holds.get("nvidia.com/gpu", 0))


@pytest.mark.parametrize("file", sorted(path.name for path in CLUSTERS.iterdir()))
def test_no_file_holds_a_credential(file) -> None:
    text = (CLUSTERS / file).read_text()
    assert not re.search(r"AKIA|aws_secret|secret_?access|private_key|password|BEGIN [A-Z ]*KEY", text, re.IGNORECASE)


def test_every_query_of_the_dashboard_names_metrics_and_labels_that_are_there() -> None:
    dashboard = json.loads((CLUSTERS / "grafana.json").read_text())
    labels = {
        **{f"ray_{PREFIX}{name}_total": {*LABELS, *more} for name, (_, more) in COUNTERS.items()},
        **{f"ray_{PREFIX}{name}": {*LABELS, *more} for name, (_, more) in GAUGES.items()},
    }
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [variable["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    named = set()
    for query in queries:
        assert query.count("(") == query.count(")")
        assert query.count("{") == query.count("}")
        used = re.findall(r"(ray_\w+)(?:\{(.*?)\})?", query)
        assert used
        known = set.intersection(*(labels[name] for name, _ in used))
        for name, selector in used:
            assert set(re.findall(r"(\w+)=~?", selector)) <= labels[name]
        for grouped in re.findall(r"\bby \((.*?)\)", query):
            assert set(grouped.split(", ")) <= known
        named |= {name for name, _ in used}
    assert named == set(labels)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
