"""Whether manifests agree with the application they run, and with each other."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from ray.serve.schema import (
    DeploymentSchema,
    HTTPOptionsSchema,
    RayActorOptionsSchema,
    ServeApplicationSchema,
    ServeDeploySchema,
)

from sa_ray.app import SMALL_CPUS
from sa_ray.catalogue import VARIANTS
from sa_ray.errors import ConfigurationError
from sa_ray.serving.actors.provision import ACTOR_CPUS
from sa_ray.settings import Settings, load_settings
from tests.manifests.kustomize import Manifest, containers

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = {"ingress", "dispatcher", *VARIANTS}
SECRET = "sa-ray"
SECRET_KEYS = {
    *("hf-token", "jobs-url", "redis-password", "webhook-secret"),
    *("aws-access-key-id", "aws-secret-access-key"),
}
GPU = "nvidia.com/gpu"
EPSILON = 1e-9
CLEANUP_S = 300
"""How long KubeRay lets the job run that removes a deleted cluster's state from Redis."""


@dataclass(frozen=True)
class Group:
    """Ray nodes of one kind."""

    name: str
    cpus: float
    gpus: float
    least: int
    most: int
    labels: dict[str, str]


@dataclass(frozen=True)
class Deployment:
    """The manifests of one overlay."""

    manifests: list[Manifest]

    @cached_property
    def service(self) -> Manifest:
        (service,) = self.of_kind("RayService")
        return service

    @cached_property
    def cluster(self) -> Manifest:
        return self.service["spec"]["rayClusterConfig"]  # type: ignore[no-any-return]

    @cached_property
    def serve_config(self) -> Manifest:
        return yaml.safe_load(self.service["spec"]["serveConfigV2"])  # type: ignore[no-any-return]

    @cached_property
    def groups(self) -> list[Group]:
        return [group_of(spec) for spec in self.cluster["workerGroupSpecs"]]

    def settings(self) -> Settings:
        return load_settings(self.serve_config["applications"][0].get("args", {}))

    def of_kind(self, kind: str) -> list[Manifest]:
        return [manifest for manifest in self.manifests if manifest["kind"] == kind]

    def named(self, kind: str) -> set[str]:
        return {manifest["metadata"]["name"] for manifest in self.of_kind(kind)}

    def ray_pods(self) -> list[Manifest]:
        """Metadata and spec of the Pods that KubeRay makes, with the labels that it adds."""
        head = self.cluster["headGroupSpec"]
        return [
            ray_pod(head, {"ray.io/node-type": "head", "ray.io/group": "headgroup"}),
            *(
                ray_pod(group, {"ray.io/node-type": "worker", "ray.io/group": group["groupName"]})
                for group in self.cluster["workerGroupSpecs"]
            ),
        ]

    def pods(self) -> list[Manifest]:
        return [
            *self.ray_pods(),
            *(manifest["spec"]["template"] for manifest in self.of_kind("StatefulSet")),
        ]


def group_of(spec: Manifest) -> Group:
    limits = spec["template"]["spec"]["containers"][0]["resources"]["limits"]
    return Group(
        name=spec.get("groupName", "?"),
        cpus=float(limits["cpu"]),
        gpus=float(limits.get(GPU, 0)),
        least=spec["minReplicas"],
        most=spec["maxReplicas"],
        labels=spec.get("labels", {}),
    )


OPERATORS_LABELS = {
    "app.kubernetes.io/name": "kuberay",
    "app.kubernetes.io/created-by": "kuberay-operator",
}
"""What KubeRay puts on each Pod that has no such label, and finds the head by."""


def ray_pod(group: Manifest, added: dict[str, str]) -> Manifest:
    template = group["template"]
    own = template.get("metadata", {}).get("labels", {}) | group.get("labels", {})
    return {
        "metadata": {"labels": OPERATORS_LABELS | own | added | {"ray.io/is-ray-node": "yes"}},
        "spec": template["spec"],
    }


def problems(deployment: Deployment) -> list[str]:
    found = [*version_problems(deployment), *serve_problems(deployment)]
    # What follows reads the settings.
    return found or [*reference_problems(deployment), *drain_problems(deployment)]


def version_problems(deployment: Deployment) -> Iterator[str]:
    if deployment.cluster.get("rayVersion") != version("ray"):
        yield f"rayVersion {deployment.cluster.get('rayVersion')} is not {version('ray')}"
    for pod in deployment.ray_pods():
        for container in pod["spec"]["containers"]:
            tag = container["image"].partition(":")[2]
            if not tag.startswith(f"{version('sa-ray')}-"):
                yield f"image tag {tag} is not of version {version('sa-ray')}"


def serve_problems(deployment: Deployment) -> Iterator[str]:
    """Whether ``serveConfigV2`` is the application, with room for it in the Pods."""
    found = list(config_problems(deployment.serve_config, deployment.groups))
    yield from found
    if found:
        return
    settings = deployment.settings()
    images = {c["image"] for pod in deployment.ray_pods() for c in pod["spec"]["containers"]}
    flavour = "-cuda" if settings.models.engine == "stable-audio-3" else "-cpu"
    if settings.models.engine == "auto" or not all(image.endswith(flavour) for image in images):
        yield f"the engine {settings.models.engine} does not go with the images {sorted(images)}"


def config_problems(config: Manifest, groups: list[Group]) -> Iterator[str]:
    """What is wrong with a Serve configuration for a cluster of these nodes."""
    try:
        ServeDeploySchema.model_validate(config)
    except ValidationError as error:
        yield f"serveConfigV2: {error}"
        return
    yield from _unknown_keys(config)
    source = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    if _without_settings(config) != _without_settings(source):
        yield "serveConfigV2 is not serve_config.yaml with other args"
    (application,) = config["applications"]
    overrides = {entry["name"]: entry for entry in application.get("deployments", ())}
    if unknown := set(overrides) - DEPLOYMENTS:
        yield f"serveConfigV2 names deployments that do not exist: {sorted(unknown)}"
    try:
        settings = load_settings(application.get("args", {}))
    except ConfigurationError as error:
        yield f"serveConfigV2: {error.message}"
        return
    yield from _room_problems(groups, settings, overrides)


def _room_problems(groups: list[Group], settings: Settings, overrides: Manifest) -> Iterator[str]:
    """Whether what the application asks of Ray, at its most, is what the Pods give."""
    on_gpu = settings.models.engine == "stable-audio-3" and settings.models.device == "cuda"
    specs = {name: settings.models.spec(name) for name in VARIANTS}
    for name, spec in specs.items():
        gpu = spec.gpu if on_gpu else 0
        if not any(group.gpus >= gpu and group.cpus >= spec.cpu for group in groups):
            yield f"no group has room for {name}: {gpu} GPUs and {spec.cpu} CPUs"
    gpus = sum(spec.gpu * spec.max_replicas for spec in specs.values()) if on_gpu else 0
    offered = sum(group.gpus * group.most for group in groups)
    if not gpus - EPSILON <= offered <= gpus + EPSILON:
        yield f"the variants take {gpus} GPUs at most, and the groups have {offered}"
    cpus = sum(spec.cpu * spec.max_replicas for spec in specs.values())
    cpus += SMALL_CPUS * (settings.limits.most_ingress_replicas + 1) + 2 * ACTOR_CPUS
    if cpus > sum(group.cpus * group.most for group in groups):
        yield f"the application takes {cpus} CPUs at most, more than the groups have"
    for name, override in overrides.items():
        options = override.get("ray_actor_options", {})
        wanted = options.get("label_selector", {}).items()
        fitting = [group for group in groups if wanted <= group.labels.items()]
        limits = settings.limits
        for nodes, replicas in (
            (sum(one.least for one in fitting), limits.ingress_replicas),
            (sum(one.most for one in fitting), limits.most_ingress_replicas),
        ):
            count = replicas if name == "ingress" else 1
            if nodes * override.get("max_replicas_per_node", count) < count:
                yield f"{nodes} nodes are there for {count} replicas of {name}"
        if options.get("num_cpus", SMALL_CPUS) != SMALL_CPUS:
            yield f"{name} asks for {options['num_cpus']} CPUs instead of {SMALL_CPUS}"


def _unknown_keys(config: Manifest) -> Iterator[str]:
    """Ray's schemas pass over keys that they do not know."""
    checked: list[tuple[Any, type[BaseModel]]] = [
        (config, ServeDeploySchema),
        (config.get("http_options", {}), HTTPOptionsSchema),
    ]
    for application in config["applications"]:
        checked.append((application, ServeApplicationSchema))
        for entry in application.get("deployments", ()):
            checked += [
                (entry, DeploymentSchema),
                (entry.get("ray_actor_options", {}), RayActorOptionsSchema),
            ]
    for values, schema in checked:
        if unknown := set(values) - set(schema.model_fields):
            yield f"serveConfigV2: {sorted(unknown)} not known to {schema.__name__}"


def _without_settings(config: Manifest) -> Manifest:
    applications = [
        {key: value for key, value in entry.items() if key not in ("args", "deployments")}
        for entry in config["applications"]
    ]
    return config | {"applications": applications}


def reference_problems(deployment: Deployment) -> Iterator[str]:
    for pod in deployment.pods():
        yield from _pod_references(deployment, pod["spec"])
    for reference in _secret_references(deployment.manifests):
        if reference["name"] != SECRET or reference["key"] not in SECRET_KEYS:
            yield f"the README does not say how to make the secret {reference}"
    labels = [pod["metadata"]["labels"] for pod in deployment.pods()]
    for kind, field in (
        ("PodDisruptionBudget", "selector"),
        ("PodMonitor", "selector"),
        ("NetworkPolicy", "podSelector"),
    ):
        for manifest in deployment.of_kind(kind):
            selected = manifest["spec"][field]["matchLabels"].items()
            if not any(selected <= pod.items() for pod in labels):
                yield f"{kind} {manifest['metadata']['name']} selects nothing"


def _pod_references(deployment: Deployment, spec: Manifest) -> Iterator[str]:
    volumes = {volume["name"]: volume for volume in spec.get("volumes", ())}
    templates = {
        claim["metadata"]["name"]
        for owner in deployment.of_kind("StatefulSet")
        for claim in owner["spec"].get("volumeClaimTemplates", ())
    }
    for container in spec["containers"]:
        for mount in container.get("volumeMounts", ()):
            if mount["name"] not in {*volumes, *templates}:
                yield f"no volume {mount['name']} to mount"
    for volume in volumes.values():
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim and claim not in deployment.named("PersistentVolumeClaim"):
            yield f"no claim {claim}"
    if spec.get("priorityClassName") not in deployment.named("PriorityClass"):
        yield f"no priority class {spec.get('priorityClassName')}"


def _secret_references(node: Any) -> Iterator[Manifest]:
    if isinstance(node, dict):
        if "secretKeyRef" in node:
            yield node["secretKeyRef"]
        for value in node.values():
            yield from _secret_references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _secret_references(value)


def drain_problems(deployment: Deployment) -> Iterator[str]:
    """Everything that stops leaves what it holds the time to finish."""
    settings = deployment.settings()
    grace = max(settings.models.spec(name).grace_seconds for name in VARIANTS)
    if deployment.service["spec"].get("rayClusterDeletionDelaySeconds", 60) <= grace:
        yield f"an old cluster is deleted within the grace of {grace} s"
    head, *workers = (pod["spec"] for pod in deployment.ray_pods())
    drains = []
    for spec in workers:
        command, seconds = _stopping(spec)
        drains.append(seconds)
        if command != "drain-node" or seconds <= grace:
            yield f"a worker that stops does not drain for longer than {grace} s"
        if spec.get("terminationGracePeriodSeconds", 30) <= seconds:
            yield "a worker is killed before it has drained"
    _, stays = _stopping(head)
    if "gcsFaultToleranceOptions" in deployment.cluster:
        annotations = deployment.service["metadata"].get("annotations", {})
        if float(annotations.get("ray.io/gcs-ft-deletion-timeout", 300)) < stays + CLEANUP_S:
            yield "the operator gives up cleaning Redis before the cluster has drained"
    if stays <= max(drains) or head.get("terminationGracePeriodSeconds", 30) <= stays:
        yield "the head is gone before the workers have drained"


def _stopping(spec: Manifest) -> tuple[str, float]:
    (container,) = containers({"containers": spec["containers"]})
    command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    return command, float(seconds)
