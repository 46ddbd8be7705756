"""Names and selectors lead somewhere."""

from collections.abc import Iterator

from attrloop.components.errors import Problem
from manifests.check.build import Document, containers, name_of, of_kind, pods

_COMPUTE_CLASS = "cloud.google.com/compute-class"
_NAMESPACE = "kubernetes.io/metadata.name"


def references(documents: list[Document]) -> Iterator[Problem]:
    """Whatever is named exists: accounts, priority classes, volumes, compute classes, flavors, queues, stores, secrets where the operator makes them."""
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
    for owner, template in pods(documents):
        where, namespace, pod = name_of(owner), owner["metadata"]["namespace"], template["spec"]
        yield where, "ServiceAccount", namespace, pod.get("serviceAccountName", "")
        yield where, "PriorityClass", None, pod.get("priorityClassName", "")
        if _COMPUTE_CLASS in pod.get("nodeSelector", {}):
            yield where, "ComputeClass", None, pod["nodeSelector"][_COMPUTE_CLASS]
        for volume in pod.get("volumes", []):
            if "persistentVolumeClaim" in volume:
                yield where, "PersistentVolumeClaim", namespace, volume["persistentVolumeClaim"]["claimName"]
        for where_, name, key in _secret_keys(documents, owner):
            yield where_, "Secret", namespace, name
            if not _offers(documents, namespace, name, key):
                yield where_, "ExternalSecret", namespace, f"{name} with the key {key}"
    for binding in of_kind(documents, "RoleBinding", "ClusterRoleBinding"):
        for subject in binding["subjects"]:
            yield name_of(binding), subject["kind"], subject.get("namespace"), subject["name"]
    for one in of_kind(documents, "SecretStore"):
        account = one["spec"]["provider"]["gcpsm"]["auth"]["workloadIdentity"]["serviceAccountRef"]["name"]
        yield name_of(one), "ServiceAccount", one["metadata"]["namespace"], account
    for one in of_kind(documents, "ExternalSecret"):
        yield name_of(one), "SecretStore", one["metadata"]["namespace"], one["spec"]["secretStoreRef"]["name"]
    for one in of_kind(documents, "ResourceFlavor"):
        yield name_of(one), "ComputeClass", None, one["spec"]["nodeLabels"][_COMPUTE_CLASS]
    for one in of_kind(documents, "ClusterQueue"):
        yield from (
            (name_of(one), "ResourceFlavor", None, flavor["name"])
            for group in one["spec"]["resourceGroups"]
            for flavor in group["flavors"]
        )
    for one in of_kind(documents, "LocalQueue"):
        yield name_of(one), "ClusterQueue", None, one["spec"]["clusterQueue"]


def _secret_keys(documents: list[Document], owner: Document) -> Iterator[tuple[str, str, str]]:
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
    """Every selector selects something: a mistyped label in a network policy or a service fails silently otherwise."""
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
