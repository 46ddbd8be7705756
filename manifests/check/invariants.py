"""What holds for every overlay beyond the schemas.

An invariant takes the documents and yields the problems that it finds. `INVARIANTS` lists those that run.
"""

import re
from collections.abc import Callable, Iterator

from attrloop.components.errors import Problem
from manifests.check.build import UNSET, Document, containers, name_of, of_kind
from manifests.check.environment import by_reference, known_variables
from manifests.check.references import disruptions, references, selectors
from manifests.check.rights import known_to_kubeflow, narrow_rights, steps_rights

_DIGEST = re.compile(rf"[^@]+@sha256:([0-9a-f]{{64}}|{UNSET})")


def unprivileged(documents: list[Document]) -> Iterator[Problem]:
    """Containers run as a user other than root, with a read-only root file system, no privileges, no host access."""
    for where, pod, container in containers(documents):
        own, shared = container.get("securityContext", {}), pod.get("securityContext", {})
        context = shared | own
        wrong = {
            "may run as root": context.get("runAsNonRoot") is not True or context.get("runAsUser", 0) == 0,
            "has a writable root file system": own.get("readOnlyRootFilesystem") is not True,
            "may gain privileges": own.get("allowPrivilegeEscalation") is not False or own.get("privileged", False),
            "has capabilities": own.get("capabilities") != {"drop": ["ALL"]},
            "runs without seccomp": context.get("seccompProfile") != {"type": "RuntimeDefault"},
            "reaches into the node": any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
            or any("hostPath" in v for v in pod.get("volumes", [])),
        }
        yield from (
            Problem(where, what, "Set the security context as in mlflow.yaml")
            for what, is_wrong in wrong.items()
            if is_wrong
        )


def limited(documents: list[Document]) -> Iterator[Problem]:
    """Every container has requests and limits for CPU and memory; every scratch volume has a size."""
    for where, pod, container in containers(documents):
        for kind in ("requests", "limits"):
            for name in {"cpu", "memory"} - container.get("resources", {}).get(kind, {}).keys():
                yield Problem(where, f"no {name} in {kind}", "State it under resources")
        for volume in pod.get("volumes", []):
            if "sizeLimit" not in (volume.get("emptyDir", {"sizeLimit": ""}) or {}):
                yield Problem(where, f"volume {volume['name']} has no size", "Give the emptyDir a sizeLimit")


def writable(documents: list[Document]) -> Iterator[Problem]:
    """A pod that writes to the volume of a claim sets fsGroup: a new volume belongs to root."""
    for where, pod, container in containers(documents):
        # The claims of a stateful set are not among a pod's volumes.
        scratch = {volume["name"] for volume in pod.get("volumes", []) if "persistentVolumeClaim" not in volume}
        context = pod.get("securityContext", {})
        for mount in container.get("volumeMounts", []):
            if (
                mount["name"] not in scratch
                and not mount.get("readOnly")
                and context.get("fsGroup", 0) != context.get("runAsGroup")
            ):
                yield Problem(where, f"may not write to {mount['name']}", "Give the pod its runAsGroup as fsGroup")


def digests(documents: list[Document]) -> Iterator[Problem]:
    """Every image has a digest, or the placeholder of one that has not been built yet."""
    for where, _, container in containers(documents):
        if not _DIGEST.fullmatch(container["image"]):
            yield Problem(where, f"image {container['image']} has no digest", "Name it in manifests/components/images")


def default_deny(documents: list[Document]) -> Iterator[Problem]:
    """Every namespace denies traffic by default and enforces a pod security level."""
    declared = {document["metadata"]["name"] for document in of_kind(documents, "Namespace")}
    denying = {
        policy["metadata"]["namespace"]
        for policy in of_kind(documents, "NetworkPolicy")
        if policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    }
    yield from (
        Problem(f"Namespace/{name}", "no policy denies by default", "Add default-deny to network.yaml")
        for name in sorted(declared - denying)
    )
    for document in documents:
        if (namespace := document["metadata"].get("namespace", "")) and namespace not in declared:
            yield Problem(
                name_of(document), "its namespace is not in the manifests", f"Use one of: {', '.join(sorted(declared))}"
            )
        level = document["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce")
        if document["kind"] == "Namespace" and level not in ("baseline", "restricted"):
            yield Problem(
                name_of(document),
                "enforces no pod security level",
                "Label it pod-security.kubernetes.io/enforce: restricted",
            )


INVARIANTS: tuple[Callable[[list[Document]], Iterator[Problem]], ...] = (
    unprivileged,
    limited,
    writable,
    digests,
    narrow_rights,
    steps_rights,
    known_to_kubeflow,
    default_deny,
    references,
    selectors,
    disruptions,
    by_reference,
    known_variables,
)
