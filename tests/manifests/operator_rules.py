"""What the KubeRay operator refuses besides its schema.

After `utils/validation.go` and `common/service.go` of `ray-operator/controllers/ray` in KubeRay
1.7, for what a RayService can say; features behind gates that are off by default are refused.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from packaging.version import InvalidVersion, Version

from tests.manifests.kustomize import Manifest

MAX_NAME = 47
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
LABEL_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
RESOURCE_PARAMS = ("num-cpus", "num-gpus", "memory", "resources")
GATED = ("networkPolicy", "tlsOptions", "historyServerOptions")
UPGRADES = ("None", "NewCluster", "NewClusterWithIncrementalUpgrade")
AUTOSCALER_V2 = "RAY_enable_autoscaler_v2"


def problems(service: Manifest) -> list[str]:
    return [
        *_name(service["metadata"]["name"]),
        *_upgrade(service["spec"]),
        *_cluster(service["spec"]["rayClusterConfig"]),
    ]


def _name(name: str) -> Iterator[str]:
    if len(name) > MAX_NAME or not DNS_1035.fullmatch(name):
        yield f"name {name!r}: a DNS-1035 label of at most {MAX_NAME} characters is wanted"


def _upgrade(spec: Manifest) -> Iterator[str]:
    strategy = spec.get("upgradeStrategy", {})
    kind = strategy.get("type")
    if kind is not None and kind not in UPGRADES:
        yield f"upgradeStrategy.type {kind!r} is not one of {UPGRADES}"
    if spec.get("rayClusterDeletionDelaySeconds", 0) < 0:
        yield "rayClusterDeletionDelaySeconds is negative"
    if kind == "NewClusterWithIncrementalUpgrade":
        if not spec["rayClusterConfig"].get("enableInTreeAutoscaling"):
            yield "an incremental upgrade needs the autoscaler"
        options = strategy.get("clusterUpgradeOptions")
        if not options:
            yield "an incremental upgrade needs clusterUpgradeOptions"
        elif not 0 <= options["stepSizePercent"] <= options.get("maxSurgePercent", 100) <= 100:
            yield "stepSizePercent <= maxSurgePercent <= 100 is wanted"
        elif options["intervalSeconds"] <= 0 or not options["gatewayClassName"]:
            yield "intervalSeconds and gatewayClassName are wanted"


def _cluster(spec: Manifest) -> Iterator[str]:
    head = spec["headGroupSpec"]
    if head.get("headService", {}).get("metadata", {}).get("name"):
        yield "headService must not be named"
    yield from _group("head", head)
    for field in GATED:
        if field in spec:
            yield f"{field} is behind a feature gate that is off by default"
    if not head["template"]["spec"]["containers"]:
        return
    ports = head["template"]["spec"]["containers"][0].get("ports", [])
    if ports and not any(port.get("name", "").split("-")[0] == "serve" for port in ports):
        yield "the head needs a port named serve: the service has its ports from there"
    names = [group.get("groupName") for group in spec.get("workerGroupSpecs", ())]
    if len(names) != len(set(names)):
        yield f"group names are not unique: {names}"
    for group in spec.get("workerGroupSpecs", ()):
        yield from _group(group.get("groupName", "?"), group)
        yield from _worker_group(spec, group)
    yield from _fault_tolerance(spec)
    yield from _autoscaler(spec)
    yield from _auth(spec)


def _group(name: str, group: Manifest) -> Iterator[str]:
    params = group.get("rayStartParams", {})
    if not group["template"]["spec"]["containers"]:
        yield f"{name}: at least one container is wanted"
    if group.get("resources") and any(params.get(key) for key in RESOURCE_PARAMS):
        yield f"{name}: resources are in both rayStartParams and resources"
    if "labels" in params:
        yield f"{name}: labels belong in `labels`, not in rayStartParams"
    for key, value in group.get("labels", {}).items():
        prefix, slash, label = key.rpartition("/")
        sound = LABEL_NAME.fullmatch(label) and (not slash or LABEL_PREFIX.fullmatch(prefix))
        if not sound or (value and not LABEL_NAME.fullmatch(value)):
            yield f"{name}: {key}={value} is not a label"


def _worker_group(spec: Manifest, group: Manifest) -> Iterator[str]:
    name = group.get("groupName", "?")
    autoscaling = spec.get("enableInTreeAutoscaling", False)
    least, most = group.get("minReplicas"), group.get("maxReplicas")
    if not autoscaling and (least is None or most is None):
        yield f"{name}: minReplicas and maxReplicas are wanted without the autoscaler"
    if (least or 0) < 0 or (most or 0) < 0:
        yield f"{name}: negative replicas"
    if least is not None and most is not None and least > most:
        yield f"{name}: minReplicas {least} is greater than maxReplicas {most}"
    if group.get("suspend"):
        yield f"{name}: suspending is behind a feature gate that is off by default"
    for field in ("idleTimeoutSeconds", "priority"):
        if group.get(field) and not _is_v2(spec) and _env(spec)(AUTOSCALER_V2) not in ("1", "true"):
            yield f"{name}: {field} needs autoscaler v2"
    if group.get("idleTimeoutSeconds", 0) < 0:
        yield f"{name}: idleTimeoutSeconds is negative"


def _fault_tolerance(spec: Manifest) -> Iterator[str]:
    options = spec.get("gcsFaultToleranceOptions")
    params, env = spec["headGroupSpec"].get("rayStartParams", {}), _env(spec)
    if params.get("redis-username") or env("REDIS_USERNAME") is not None:
        yield "a Redis user belongs in gcsFaultToleranceOptions.redisUsername"
    if options is None:
        if env("RAY_REDIS_ADDRESS") is not None:
            yield "RAY_REDIS_ADDRESS needs gcsFaultToleranceOptions"
        return
    if params.get("redis-password") or env("REDIS_PASSWORD") is not None:
        yield "a Redis password belongs in gcsFaultToleranceOptions.redisPassword"
    if env("RAY_REDIS_ADDRESS") is not None:
        yield "a Redis address belongs in gcsFaultToleranceOptions.redisAddress"
    if options.get("backend", "redis") != "redis":
        yield "the backend rocksdb is behind a feature gate that is off by default"
    if "storage" in options:
        yield "gcsFaultToleranceOptions.storage is for the backend rocksdb"


def _autoscaler(spec: Manifest) -> Iterator[str]:
    options, env = spec.get("autoscalerOptions", {}), _env(spec)
    if options.get("idleTimeoutSeconds", 0) < 0:
        yield "autoscalerOptions.idleTimeoutSeconds is negative"
    if any(e["name"] == "KUBERAY_GEN_AUTOSCALER_START_CMD" for e in options.get("env", ())):
        yield "KUBERAY_GEN_AUTOSCALER_START_CMD is the operator's"
    if not spec.get("enableInTreeAutoscaling"):
        if env(AUTOSCALER_V2) in ("1", "true"):
            yield f"{AUTOSCALER_V2} needs enableInTreeAutoscaling"
        return
    if options.get("version") and env(AUTOSCALER_V2) is not None:
        yield f"autoscalerOptions.version and {AUTOSCALER_V2} are both set"
    if _is_v2(spec):
        for group in (spec["headGroupSpec"], *spec.get("workerGroupSpecs", ())):
            if group["template"]["spec"].get("restartPolicy", "Never") != "Never":
                yield "autoscaler v2 wants restartPolicy Never"


def _auth(spec: Manifest) -> Iterator[str]:
    options = spec.get("authOptions", {})
    if options.get("enableK8sTokenAuth"):
        yield "enableK8sTokenAuth is not supported for a RayService"
    if options.get("mode") == "token":
        try:
            supported = Version(spec.get("rayVersion", "")) >= Version("2.52.0")
        except InvalidVersion:
            supported = False
        if not supported:
            yield "authOptions.mode token wants a rayVersion of 2.52.0 or later"


def _is_v2(spec: Manifest) -> bool:
    return spec.get("autoscalerOptions", {}).get("version") == "v2"


def _env(spec: Manifest) -> Any:
    container = spec["headGroupSpec"]["template"]["spec"]["containers"][0]
    values: Mapping[str, str] = {e["name"]: e.get("value", "") for e in container.get("env", ())}
    return values.get
