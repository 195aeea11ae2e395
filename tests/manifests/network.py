"""What NetworkPolicies let through, as a network plugin decides it.

Only the fields that ours use; any other is refused.
"""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.manifests.kustomize import Manifest

NAMESPACE_NAME = "kubernetes.io/metadata.name"


class PolicyError(Exception):
    """The policy uses a feature that is not implemented here."""


@dataclass(frozen=True)
class Peer:
    """A Pod, or an address outside the cluster."""

    labels: dict[str, str] = field(default_factory=dict)
    namespace: str = "sa-ray"
    address: str = ""


Ports = set[int] | None
"""TCP ports, and as a negative number UDP ports; None: all of TCP at least."""


def reached(
    policies: list[Manifest], pod: dict[str, str], peer: Peer, direction: str = "Ingress"
) -> Ports:
    """The ports of ``pod`` that ``peer`` reaches; with ``Egress``, those of ``peer`` that ``pod``
    does. A Pod that no policy of that direction selects is open."""
    specs = [
        policy["spec"]
        for policy in policies
        if direction in policy["spec"]["policyTypes"]
        and _labels(policy["spec"]["podSelector"]).items() <= pod.items()
    ]
    opened: set[int] = set()
    for rule in (rule for spec in specs for rule in spec.get(direction.lower(), ())):
        _require(rule, {"from", "to", "ports"})
        peers = rule.get("from" if direction == "Ingress" else "to", [{}])
        if any(_admits(entry, peer) for entry in peers):
            ports = set(_ports(rule))
            if None in ports:
                return None
            opened |= {port for port in ports if port is not None}
    return opened if specs else None


def _ports(rule: Manifest) -> Iterator[int | None]:
    for entry in rule.get("ports", [{}]):
        _require(entry, {"port", "protocol"})
        port = entry.get("port")
        yield -port if port and entry.get("protocol") == "UDP" else port


def _admits(entry: Manifest, peer: Peer) -> bool:
    _require(entry, {"namespaceSelector", "podSelector", "ipBlock"})
    if not entry:
        return True
    if block := entry.get("ipBlock"):
        return bool(peer.address) and _holds(block, peer.address)
    if peer.address:
        return False
    if "namespaceSelector" in entry:
        wanted = _labels(entry["namespaceSelector"])
        namespace = wanted.items() <= {NAMESPACE_NAME: peer.namespace}.items()
    else:
        namespace = peer.namespace == "sa-ray"
    return namespace and _labels(entry.get("podSelector", {})).items() <= peer.labels.items()


def _holds(block: Manifest, address: str) -> bool:
    _require(block, {"cidr", "except"})
    ip = ipaddress.ip_address(address)
    whole = ipaddress.ip_network(block["cidr"])
    left_out = [ipaddress.ip_network(entry) for entry in block.get("except", ())]
    for network in left_out:
        if network.version != whole.version or not network.subnet_of(whole):  # type: ignore[arg-type]
            raise PolicyError(f"{network} is not within {whole}: Kubernetes would refuse it")
    return ip in whole and not any(ip in network for network in left_out)


def _labels(selector: Manifest) -> dict[str, str]:
    _require(selector, {"matchLabels"})
    labels: dict[str, str] = selector.get("matchLabels", {})
    return labels


def _require(fields: Manifest, known: set[str]) -> None:
    if unknown := set(fields) - known:
        raise PolicyError(f"{sorted(unknown)} not known")
