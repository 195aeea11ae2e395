"""Who reaches what: the NetworkPolicies of each overlay, decided as a network plugin does."""

import pytest

from sa_ray.jobs.public_addresses import METADATA
from tests.manifests.agreement import Deployment
from tests.manifests.kustomize import Manifest
from tests.manifests.network import Peer, Ports, reached
from tests.manifests.services import endpoints, serve_service

HTTP, DASHBOARD, METRICS, REDIS, DNS, HTTPS = 8000, 8265, {8080, 44217}, 6379, 53, 443
NAME, COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"
OPERATOR = {COMPONENT: "kuberay-operator"}
PROMETHEUS = {NAME: "prometheus"}
SA_RAY = {"app.kubernetes.io/part-of": "sa-ray"}
RESOLVER = Peer({"k8s-app": "kube-dns"}, "kube-system")
PUBLIC = ("3.5.140.2", "104.18.0.1", "2600:9000:2000::1")
"""Of Amazon S3, of a content network, and of a content network."""
NOT_PUBLIC = (
    # What tells a node's, or a Pod's, credentials.
    *map(str, METADATA),
    *("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"),
    # Private networks, the nodes and Services among them.
    *("10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1"),
    *("127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "fc00::1", "fdff::1"),
)


def policies(deployment: Deployment) -> list[Manifest]:
    return deployment.of_kind("NetworkPolicy")


def into(deployment: Deployment, pod: Manifest, peer: Peer) -> Ports:
    return reached(policies(deployment), pod["metadata"]["labels"], peer)


def out_of(deployment: Deployment, pod: Manifest, peer: Peer) -> Ports:
    return reached(policies(deployment), pod["metadata"]["labels"], peer, "Egress")


def redis(deployment: Deployment) -> Manifest:
    (owner,) = deployment.of_kind("StatefulSet")
    return owner["spec"]["template"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "stranger",
    [
        Peer({"app": "stranger"}),
        Peer({"app": "stranger"}, "theirs"),
        Peer(address="3.5.140.2"),
        # Labels are for everyone to set; a namespace's name is not.
        Peer(SA_RAY, "theirs"),
        Peer(PROMETHEUS, "theirs"),
        Peer(PROMETHEUS),
        Peer(OPERATOR, "theirs"),
        Peer({NAME: "kuberay-operator"} | OPERATOR),
        Peer({"app": "stranger"}, "monitoring"),
        Peer({"app": "stranger"}, "kuberay-operator"),
    ],
    ids=str,
)
def test_strangers_reach_http_alone(stranger: Peer, deployment: Deployment) -> None:
    for pod in deployment.ray_pods():
        assert into(deployment, pod, stranger) == ({HTTP} if takes_http(pod) else set())


def takes_http(pod: Manifest) -> bool:
    return pod["metadata"]["labels"].get("sa-ray/role") == "control"


def test_http_enters_where_the_ingress_runs_and_nowhere_else(deployment: Deployment) -> None:
    """Neither through the head nor, where they come and go, through nodes with GPUs."""
    pods = {pod["metadata"]["labels"]["ray.io/group"]: pod for pod in deployment.ray_pods()}
    service = serve_service(deployment.service, "sa-ray-abcde")

    entered = endpoints(service, pods, "sa-ray-abcde")

    assert entered == {group: [HTTP] for group, pod in pods.items() if takes_http(pod)}
    assert len(entered) == 1
    assert [(port["name"], port["port"]) for port in service["spec"]["ports"]] == [("serve", HTTP)]
    for entry in deployment.serve_config["applications"][0].get("deployments", ()):
        if entry["name"] == "ingress":
            selector = entry["ray_actor_options"]["label_selector"]
            assert selector == {"sa-ray/role": "control"}


def test_rays_processes_reach_each_other(deployment: Deployment) -> None:
    for pod in deployment.ray_pods():
        for other in deployment.ray_pods():
            peer = Peer(other["metadata"]["labels"])
            assert into(deployment, pod, peer) is None
            assert out_of(deployment, pod, peer) is None


@pytest.mark.parametrize(
    "labels",
    [OPERATOR | {NAME: "kuberay-operator"}, OPERATOR | {NAME: "kuberay"}],
    ids=["helm", "kustomize"],
)
def test_the_operator_reaches_the_dashboard(labels: dict[str, str], deployment: Deployment) -> None:
    operator = Peer(labels, "kuberay-operator")
    head, *workers = deployment.ray_pods()

    assert into(deployment, head, operator) == {DASHBOARD}
    for worker in workers:
        assert into(deployment, worker, operator) == ({HTTP} if takes_http(worker) else set())


def test_prometheus_reaches_the_metrics(of_ones_own: Deployment) -> None:
    for pod in of_ones_own.ray_pods():
        opened = METRICS | ({HTTP} if takes_http(pod) else set())
        assert into(of_ones_own, pod, Peer(PROMETHEUS, "monitoring")) == opened


def test_an_operator_in_default_is_let_in_where_it_is_asked_for(
    autoscaling: Deployment, of_ones_own: Deployment
) -> None:
    """KubeRay's kustomization installs into that namespace."""
    operator = Peer(OPERATOR | {NAME: "kuberay"}, "default")
    head, *_ = autoscaling.ray_pods()

    assert into(autoscaling, head, operator) == set()
    assert into(of_ones_own, head, operator) == {DASHBOARD}
    assert into(of_ones_own, head, Peer({"app": "stranger"}, "default")) == set()
    assert into(of_ones_own, head, Peer(OPERATOR)) == set()


def test_redis_is_for_the_cluster_alone(autoscaling: Deployment) -> None:
    assert into(autoscaling, redis(autoscaling), Peer({"app": "stranger"})) == set()
    assert into(autoscaling, redis(autoscaling), Peer(SA_RAY, "theirs")) == set()
    assert into(autoscaling, redis(autoscaling), Peer(SA_RAY)) == {REDIS}


def test_redis_reaches_nothing(autoscaling: Deployment) -> None:
    for peer in (RESOLVER, Peer(SA_RAY), *(Peer(address=a) for a in (*PUBLIC, *NOT_PUBLIC))):
        assert out_of(autoscaling, redis(autoscaling), peer) == set()


def test_names_are_resolved_by_the_clusters_dns(deployment: Deployment) -> None:
    for pod in deployment.ray_pods():
        assert out_of(deployment, pod, RESOLVER) == {DNS, -DNS}
        assert out_of(deployment, pod, Peer(address="169.254.20.10")) == {DNS, -DNS}
        assert out_of(deployment, pod, Peer(RESOLVER.labels, "theirs")) == set()


def test_the_cluster_reaches_its_redis(autoscaling: Deployment) -> None:
    labels = redis(autoscaling)["metadata"]["labels"]
    for pod in autoscaling.ray_pods():
        assert out_of(autoscaling, pod, Peer(labels)) == {REDIS}
        assert out_of(autoscaling, pod, Peer(labels, "theirs")) == set()
        # The job that tidies up after a cluster has the head's labels but for one.
        tidier = pod["metadata"]["labels"] | {"ray.io/node-type": "redis-cleanup"}
        assert reached(policies(autoscaling), tidier, Peer(labels), "Egress") == {REDIS}


def test_webhooks_go_out_where_the_dispatcher_runs_and_nowhere_else(
    deployment: Deployment,
) -> None:
    """Clients choose their ports; everything else out there is HTTPS."""
    _, *workers = deployment.ray_pods()
    for pod in workers:
        control = pod["metadata"]["labels"].get("sa-ray/role") == "control"
        for address in PUBLIC:
            opened = out_of(deployment, pod, Peer(address=address))
            assert opened == (None if control else {HTTPS})
    for entry in deployment.serve_config["applications"][0].get("deployments", ()):
        if entry["name"] == "dispatcher":
            selector = entry["ray_actor_options"]["label_selector"]
            assert selector == {"sa-ray/role": "control"}


def test_no_worker_reaches_private_networks_or_the_metadata_of_a_cloud(
    deployment: Deployment,
) -> None:
    _, *workers = deployment.ray_pods()
    for pod in workers:
        for address in NOT_PUBLIC:
            assert out_of(deployment, pod, Peer(address=address)) == set(), address
        assert out_of(deployment, pod, Peer({"app": "database"}, "theirs")) == set()
        assert out_of(deployment, pod, Peer({"app": "database"})) == set()


def test_the_head_reaches_nothing_but_the_autoscalers_api_server(deployment: Deployment) -> None:
    head, *_ = deployment.ray_pods()
    scales = bool(deployment.cluster.get("enableInTreeAutoscaling"))
    for address in ("10.0.0.1", "192.168.0.1", *PUBLIC):
        opened = out_of(deployment, head, Peer(address=address))
        assert opened == ({HTTPS, 6443} if scales else set())
    for address in ("169.254.169.254", "fd00:ec2::254", "fe80::a9fe:a9fe", "64:ff9b::a9fe:a9fe"):
        assert out_of(deployment, head, Peer(address=address)) == set()
