"""What the Pods of a RayService run, and with what variables.

After `DefaultHeadPodTemplate`, `DefaultWorkerPodTemplate`, `BuildPod` and what these call in
`ray-operator/controllers/ray/common/pod.go` of KubeRay 1.7.0.
"""

from tests.manifests.kustomize import Manifest
from tests.support.operators_environment import TIMEOUTS, WORKERS

CLUSTER = "sa-ray-abcde"
HEAD = f"{CLUSTER}-head-svc.sa-ray.svc.cluster.local"
PORT = 6379
UNITS = {"Gi": 1024**3, "Mi": 1024**2}


def command_of(group: Manifest) -> list[str]:
    """The Ray container's; ``group`` is the head's or a worker group's specification."""
    params = dict(group.get("rayStartParams", {}))
    is_head = "groupName" not in group
    params |= {"dashboard-host": "0.0.0.0"} if is_head else {"address": f"{HEAD}:{PORT}"}
    params |= {"redis-password": "$REDIS_PASSWORD"} if is_head else {}
    params |= {"metrics-export-port": "8080", "dashboard-agent-listen-port": "52365"}
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    params.setdefault("num-cpus", limits["cpu"])
    params.setdefault("memory", str(int(limits["memory"][:-2]) * UNITS[limits["memory"][-2:]]))
    if gpus := limits.get("nvidia.com/gpu"):
        params.setdefault("num-gpus", gpus)
    if labels := group.get("labels"):
        params["labels"] = ",".join(f"{key}={labels[key]}" for key in sorted(labels))
    flags = " ".join(f"--{key}={params[key]}" for key in sorted(params))
    start = f"ray start {'--head ' if is_head else ''}--block {flags}"
    return ["/bin/bash", "-c", "--", f"ulimit -n ${{RAY_START_ULIMIT_OPEN_FILES:-65536}}; {start}"]


def environment_of(
    group: Manifest, pod: str, secrets: dict[str, str], redis: str
) -> dict[str, str]:
    """The Ray container's, those of the manifest among them; ``redis`` is where Ray's state is."""
    is_head = "groupName" not in group
    container = group["template"]["spec"]["containers"][0]
    host = "127.0.0.1" if is_head else HEAD
    given = {}
    for entry in container.get("env", ()):
        if "value" in entry:
            given[entry["name"]] = entry["value"]
        elif (key := entry["valueFrom"]["secretKeyRef"]["key"]) in secrets:
            given[entry["name"]] = secrets[key]
    return {
        **TIMEOUTS,
        **({} if is_head else {**WORKERS, "FQ_RAY_IP": HEAD, "RAY_IP": HEAD.partition(".")[0]}),
        "RAY_CLUSTER_NAME": CLUSTER,
        "RAY_CLUSTER_NAMESPACE": "sa-ray",
        "RAY_CLOUD_INSTANCE_ID": pod,
        "RAY_NODE_TYPE_NAME": group.get("groupName", "headgroup"),
        "RAY_PORT": str(PORT),
        "RAY_ADDRESS": f"{host}:{PORT}",
        "RAY_USAGE_STATS_KUBERAY_IN_USE": "1",
        "RAY_DASHBOARD_ENABLE_K8S_DISK_USAGE": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets["auth_token"],
        **(_fault_tolerance(secrets, redis) if is_head else {}),
        **given,
    }


def _fault_tolerance(secrets: dict[str, str], redis: str) -> dict[str, str]:
    return {
        "RAY_REDIS_ADDRESS": redis,
        "REDIS_PASSWORD": secrets["redis-password"],
        "RAY_external_storage_namespace": CLUSTER,
    }
