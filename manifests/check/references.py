"""Every name and every selector refers to something that exists."""

from collections.abc import Callable, Iterator

from attrloop.components.errors import Problem
from manifests.check.build import Document, containers, name_of, of_kind, pods

_COMPUTE_CLASS = "cloud.google.com/compute-class"
_NAMESPACE = "kubernetes.io/metadata.name"


def references(documents: list[Document]) -> Iterator[Problem]:
    """Every named account, priority class, volume, compute class, flavor, queue and store exists.

    So does every secret in a namespace where the operator makes them.
    """
    there = {
        (document["kind"], document["metadata"].get("namespace"), document["metadata"]["name"])
        for document in documents
    }
    there |= {
        ("Secret", one["metadata"]["namespace"], one["spec"]["target"]["name"])
        for one in of_kind(documents, "ExternalSecret")
    }
    checked = {kind for kind, _, _ in there} | {
        "ServiceAccount",
        "PriorityClass",
        "PersistentVolumeClaim",
        "ComputeClass",
        "ConfigMap",
    }
    for where, kind, namespace, name in _named(documents):
        if kind in checked and (kind, namespace, name) not in there:
            yield Problem(where, f"there is no {kind} {name!r}", "Correct the name, or add it")


def _named(documents: list[Document]) -> Iterator[tuple[str, str, str | None, str]]:
    """Every name in the documents: where it is, and the kind, namespace and name of what it refers to."""
    for owner, template in pods(documents):
        yield from _named_by_pod(documents, owner, template["spec"])
    for kind, names in _NAMES.items():
        for one in of_kind(documents, kind):
            yield from ((name_of(one), *named) for named in names(one["metadata"].get("namespace"), one))


def _named_by_pod(
    documents: list[Document], owner: Document, pod: Document
) -> Iterator[tuple[str, str, str | None, str]]:
    where, namespace = name_of(owner), owner["metadata"]["namespace"]
    yield where, "ServiceAccount", namespace, pod.get("serviceAccountName", "")
    yield where, "PriorityClass", None, pod.get("priorityClassName", "")
    if _COMPUTE_CLASS in pod.get("nodeSelector", {}):
        yield where, "ComputeClass", None, pod["nodeSelector"][_COMPUTE_CLASS]
    for volume in pod.get("volumes", []):
        if "persistentVolumeClaim" in volume:
            yield where, "PersistentVolumeClaim", namespace, volume["persistentVolumeClaim"]["claimName"]
    for container, name, key in _secret_keys(owner):
        yield container, "Secret", namespace, name
        if not _offers(documents, namespace, name, key):
            yield container, "ExternalSecret", namespace, f"{name} with the key {key}"


_Names = Callable[[str | None, Document], list[tuple[str, str | None, str]]]


def _subjects(_: str | None, one: Document) -> list[tuple[str, str | None, str]]:
    return [(subject["kind"], subject.get("namespace"), subject["name"]) for subject in one["subjects"]]


def _store_account(namespace: str | None, one: Document) -> list[tuple[str, str | None, str]]:
    identity = one["spec"]["provider"]["gcpsm"]["auth"]["workloadIdentity"]
    return [("ServiceAccount", namespace, identity["serviceAccountRef"]["name"])]


def _flavors(_: str | None, one: Document) -> list[tuple[str, str | None, str]]:
    groups = one["spec"]["resourceGroups"]
    return [("ResourceFlavor", None, flavor["name"]) for group in groups for flavor in group["flavors"]]


# What a document of a kind, in a namespace, refers to: kind, namespace and name.
_NAMES: dict[str, _Names] = {
    "RoleBinding": _subjects,
    "ClusterRoleBinding": _subjects,
    "SecretStore": _store_account,
    "ExternalSecret": lambda namespace, one: [("SecretStore", namespace, one["spec"]["secretStoreRef"]["name"])],
    "ResourceFlavor": lambda _, one: [("ComputeClass", None, one["spec"]["nodeLabels"][_COMPUTE_CLASS])],
    "ClusterQueue": _flavors,
    "LocalQueue": lambda _, one: [("ClusterQueue", None, one["spec"]["clusterQueue"])],
}


def _secret_keys(owner: Document) -> Iterator[tuple[str, str, str]]:
    for where, _, container in containers([owner]):
        for entry in container.get("env", []):
            if (ref := entry.get("valueFrom", {}).get("secretKeyRef")) and not ref.get("optional"):
                yield where, ref["name"], ref["key"]


def _offers(documents: list[Document], namespace: str, secret: str, key: str) -> bool:
    made = [
        one["spec"]
        for one in of_kind(documents, "ExternalSecret")
        if (one["metadata"]["namespace"], one["spec"]["target"]["name"]) == (namespace, secret)
    ]
    return not made or any(entry["secretKey"] == key for spec in made for entry in spec["data"])


def selectors(documents: list[Document]) -> Iterator[Problem]:
    """Every selector matches something: a mistyped label in a network policy or a service fails silently otherwise."""
    services = [
        (one["metadata"]["namespace"], one["metadata"].get("labels", {})) for one in of_kind(documents, "Service")
    ]
    workloads = [
        (owner["metadata"]["namespace"], template["metadata"]["labels"]) for owner, template in pods(documents)
    ]
    for one in of_kind(documents, "Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor"):
        for namespace, labels in _selections(one):
            if not any(
                where == namespace and labels.items() <= has.items()
                for where, has in (services if one["kind"] == "ServiceMonitor" else workloads)
            ):
                yield Problem(
                    name_of(one), f"nothing in {namespace} is labelled {labels}", "Correct the selector or the labels"
                )
    for service in of_kind(documents, "Service"):
        yield from _unanswered(documents, service)


def _selections(one: Document) -> Iterator[tuple[str, dict[str, str]]]:
    namespace, spec = one["metadata"]["namespace"], one["spec"]
    if one["kind"] == "Service":
        yield namespace, spec["selector"]
    elif one["kind"] != "NetworkPolicy":
        yield namespace, spec["selector"]["matchLabels"]
    else:
        if spec["podSelector"]:
            yield namespace, spec["podSelector"]["matchLabels"]
        peers = [peer for rule in spec.get("ingress", []) for peer in rule.get("from", [])] + [
            p for rule in spec.get("egress", []) for p in rule.get("to", [])
        ]
        for peer in peers:
            if "podSelector" in peer:
                yield (
                    peer.get("namespaceSelector", {}).get("matchLabels", {}).get(_NAMESPACE, namespace),
                    peer["podSelector"]["matchLabels"],
                )


def _unanswered(documents: list[Document], service: Document) -> Iterator[Problem]:
    for owner, template in pods(documents):
        if (
            service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
            and owner["metadata"]["namespace"] == service["metadata"]["namespace"]
        ):
            named = {
                port["name"] for container in template["spec"]["containers"] for port in container.get("ports", [])
            }
            for port in service["spec"]["ports"]:
                if port["targetPort"] not in named:
                    yield Problem(
                        name_of(service),
                        f"{name_of(owner)} has no port {port['targetPort']!r}",
                        "Name the container's port",
                    )


def disruptions(documents: list[Document]) -> Iterator[Problem]:
    """Every deployment has a disruption budget that lets a node be drained."""
    budgets = [(one["metadata"]["namespace"], one["spec"]) for one in of_kind(documents, "PodDisruptionBudget")]
    for one in of_kind(documents, "Deployment"):
        labels, replicas = one["spec"]["template"]["metadata"]["labels"], one["spec"].get("replicas", 1)
        own = [
            spec
            for where, spec in budgets
            if where == one["metadata"]["namespace"] and spec["selector"]["matchLabels"].items() <= labels.items()
        ]
        if not own:
            yield Problem(name_of(one), "no disruption budget", "Add a PodDisruptionBudget")
        elif any(spec.get("minAvailable", -1) >= replicas or spec.get("maxUnavailable", 1) < 1 for spec in own):
            yield Problem(
                name_of(one),
                f"its disruption budget allows no pod of {replicas} to go, so that no node can be drained",
                "Set maxUnavailable: 1",
            )
