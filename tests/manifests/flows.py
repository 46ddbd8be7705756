"""Works out from network policies who may talk to whom, as Kubernetes does.

A pod that no policy selects is open, and allowances add up.
"""

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from manifests.check.build import UNSET, Document, of_kind

_NAMESPACE = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod by namespace and labels, or an address outside.

    Attributes:
        marks: labels of the namespace, besides its name.
    """

    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    marks: tuple[tuple[str, str], ...] = ()
    address: str = ""


def end(documents: list[Document], name: str) -> End:
    """A pod that the manifests make: `attrloop/mlflow`; one of another namespace, or an address, otherwise."""
    if name.replace(".", "").isdigit():
        return End(address=name)
    namespace, _, workload = name.partition("/")
    for one in documents:
        if one["kind"] in ("Deployment", "StatefulSet", "Job") and (
            one["metadata"]["namespace"],
            one["metadata"]["name"],
        ) == (namespace, workload):
            return End(namespace, tuple(one["spec"]["template"]["metadata"]["labels"].items()))
    return End(namespace, marks=(("attrloop.dev/serving-client", "true"),) if namespace == "shop" else ())


def allowed(documents: list[Document], source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    return _open(documents, source, target, port, protocol, "Egress") and _open(
        documents, target, source, port, protocol, "Ingress"
    )


def _open(documents: list[Document], pod: End, other: End, port: int, protocol: str, direction: str) -> bool:
    policies = [
        one["spec"]
        for one in of_kind(documents, "NetworkPolicy")
        if one["metadata"]["namespace"] == pod.namespace
        and direction in one["spec"]["policyTypes"]
        and _selects(one["spec"]["podSelector"], pod.labels)
    ]
    rules = [rule for spec in policies for rule in spec.get(direction.lower(), [])]
    return not policies or any(
        any(_is(peer, pod.namespace, other) for peer in rule["to" if direction == "Egress" else "from"])
        and {"protocol": protocol, "port": port} in rule["ports"]
        for rule in rules
    )


def _selects(selector: dict[str, Any], labels: tuple[tuple[str, str], ...]) -> bool:
    return selector.get("matchLabels", {}).items() <= dict(labels).items()


def _is(peer: dict[str, Any], namespace: str, other: End) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        if not other.address or UNSET in block["cidr"]:
            return False
        address = ip_address(other.address)
        return address in ip_network(block["cidr"]) and not any(
            address in ip_network(part) for part in block.get("except", [])
        )
    if other.address:
        return False
    marks = ((_NAMESPACE, other.namespace), *other.marks)
    in_namespace = (
        _selects(peer["namespaceSelector"], marks) if "namespaceSelector" in peer else other.namespace == namespace
    )
    return in_namespace and _selects(peer.get("podSelector", {}), other.labels)
