"""Every invariant holds for what is shipped, and fails for a copy that breaks it."""

from collections.abc import Callable
from typing import Any

import pytest

from manifests.check.build import Document
from manifests.check.environment import by_reference, known_variables
from manifests.check.invariants import INVARIANTS, default_deny, digests, limited, unprivileged, writable
from manifests.check.references import disruptions, references, selectors
from manifests.check.rights import known_to_kubeflow, narrow_rights, steps_rights

Break = Callable[[list[Document]], Any]


def the(documents: list[Document], kind: str, name: str) -> Document:
    """The document of a kind and name; the first where both namespaces have one."""
    return next(one for one in documents if (one["kind"], one["metadata"]["name"]) == (kind, name))


def container(documents: list[Document], kind: str = "Deployment", name: str = "mlflow", index: int = 0) -> Document:
    return the(documents, kind, name)["spec"]["template"]["spec"]["containers"][index]


def pod(documents: list[Document], name: str = "mlflow") -> Document:
    return the(documents, "Deployment", name)["spec"]["template"]["spec"]


def without(documents: list[Document], kind: str, name: str, namespace: str | None = None) -> None:
    documents.remove(
        next(
            one
            for one in documents
            if (one["kind"], one["metadata"]["name"], one["metadata"].get("namespace")) == (kind, name, namespace)
        )
    )


def volume(documents: list[Document], deployment: str, kind: str) -> Document:
    return next(entry[kind] for entry in pod(documents, deployment)["volumes"] if kind in entry)


def renamed(documents: list[Document], kind: str, name: str) -> None:
    the(documents, kind, name)["metadata"]["name"] = "another"


BROKEN: list[tuple[Callable[..., Any], str, Break]] = [
    (unprivileged, "may run as root", lambda d: pod(d)["securityContext"].update(runAsUser=0)),
    (
        unprivileged,
        "may run as root",
        lambda d: container(d, "Job", "mlflow-migrate")["securityContext"].update(runAsNonRoot=False),
    ),
    (
        unprivileged,
        "writable root file system",
        lambda d: pod(d, "serving")["initContainers"][0]["securityContext"].pop("readOnlyRootFilesystem"),
    ),
    (
        unprivileged,
        "may gain privileges",
        lambda d: container(d)["securityContext"].update(allowPrivilegeEscalation=True),
    ),
    (
        unprivileged,
        "has capabilities",
        lambda d: container(d, "StatefulSet", "postgres")["securityContext"]["capabilities"].update(add=["NET_RAW"]),
    ),
    (unprivileged, "without seccomp", lambda d: pod(d)["securityContext"].pop("seccompProfile")),
    (unprivileged, "reaches into the node", lambda d: pod(d).update(hostNetwork=True)),
    (
        unprivileged,
        "reaches into the node",
        lambda d: pod(d)["volumes"].append({"name": "node", "hostPath": {"path": "/"}}),
    ),
    (limited, "no memory in limits", lambda d: container(d)["resources"]["limits"].pop("memory")),
    (limited, "no cpu in requests", lambda d: container(d, "StatefulSet", "postgres")["resources"].pop("requests")),
    (limited, "volume scratch has no size", lambda d: pod(d)["volumes"][0].update(emptyDir={})),
    (
        writable,
        "may not write to models",
        lambda d: the(d, "Job", "base-model")["spec"]["template"]["spec"]["securityContext"].pop("fsGroup"),
    ),
    (
        writable,
        "may not write to data",
        lambda d: the(d, "StatefulSet", "postgres")["spec"]["template"]["spec"]["securityContext"].update(fsGroup=1),
    ),
    (digests, "has no digest", lambda d: container(d).update(image="registry.example/attrloop/worker:latest")),
    (digests, "has no digest", lambda d: container(d).update(image="registry.example/attrloop/worker@sha256:12ab")),
    (narrow_rights, "a wildcard", lambda d: the(d, "Role", "step")["rules"][1].update(verbs=["*"])),
    (narrow_rights, "rights on all secrets", lambda d: the(d, "Role", "step")["rules"][1].pop("resourceNames")),
    (narrow_rights, "rights on all secrets", lambda d: the(d, "Role", "step")["rules"][1]["verbs"].append("list")),
    (
        narrow_rights,
        "not in the manifests",
        lambda d: the(d, "RoleBinding", "step").update(roleRef={"kind": "ClusterRole", "name": "cluster-admin"}),
    ),
    (steps_rights, "may not get secrets mlpipeline-minio-artifact", lambda d: the(d, "Role", "step")["rules"].pop(1)),
    (steps_rights, "annotator: may not get pods", lambda d: the(d, "RoleBinding", "step")["subjects"].pop(0)),
    (
        steps_rights,
        "may get configmaps another, which no step needs",
        lambda d: the(d, "Role", "step")["rules"][0]["resourceNames"].append("another"),
    ),
    (
        known_to_kubeflow,
        "is not labelled",
        lambda d: the(d, "Namespace", "attrloop-runs")["metadata"]["labels"].update(
            {"app.kubernetes.io/part-of": "attrloop"}
        ),
    ),
    (
        default_deny,
        "Namespace/attrloop-runs: no policy denies",
        lambda d: without(d, "NetworkPolicy", "default-deny", "attrloop-runs"),
    ),
    (default_deny, "no policy denies", lambda d: the(d, "NetworkPolicy", "default-deny")["spec"].update(egress=[{}])),
    (
        default_deny,
        "namespace is not in the manifests",
        lambda d: the(d, "Service", "mlflow")["metadata"].update(namespace="default"),
    ),
    (default_deny, "no pod security level", lambda d: the(d, "Namespace", "attrloop")["metadata"].pop("labels")),
    (
        references,
        "no ServiceAccount 'trainor'",
        lambda d: the(d, "RoleBinding", "step")["subjects"][1].update(name="trainor"),
    ),
    (references, "no ServiceAccount ''", lambda d: pod(d).pop("serviceAccountName")),
    (references, "no ServiceAccount 'annotator'", lambda d: renamed(d, "ServiceAccount", "annotator")),
    (references, "no PriorityClass 'attrloop-service'", lambda d: renamed(d, "PriorityClass", "attrloop-service")),
    (
        references,
        "no PersistentVolumeClaim 'another'",
        lambda d: volume(d, "serving", "persistentVolumeClaim").update(claimName="another"),
    ),
    (references, "no ComputeClass 'attrloop-serving'", lambda d: renamed(d, "ComputeClass", "attrloop-serving")),
    (references, "no ResourceFlavor 'attrloop-l4'", lambda d: renamed(d, "ResourceFlavor", "attrloop-l4")),
    (references, "no ClusterQueue 'attrloop'", lambda d: renamed(d, "ClusterQueue", "attrloop")),
    (references, "no SecretStore 'secret-manager'", lambda d: renamed(d, "SecretStore", "secret-manager")),
    (references, "no Secret 'serving'", lambda d: without(d, "ExternalSecret", "serving", "attrloop")),
    (
        references,
        "the key password",
        lambda d: the(d, "ExternalSecret", "mlflow-database")["spec"]["data"][0].update(secretKey="pasword"),
    ),
    (
        selectors,
        "nothing in attrloop is labelled",
        lambda d: the(d, "PodDisruptionBudget", "mlflow")["spec"]["selector"].update(matchLabels={"app": "mlflow"}),
    ),
    (selectors, "nothing in attrloop is labelled", lambda d: the(d, "Service", "serving")["metadata"].pop("labels")),
    (
        selectors,
        "NetworkPolicy/database-clients",
        lambda d: the(d, "StatefulSet", "postgres")["spec"]["template"]["metadata"]["labels"].clear(),
    ),
    (selectors, "has no port 'http'", lambda d: container(d)["ports"][0].update(name="web")),
    (disruptions, "no disruption budget", lambda d: without(d, "PodDisruptionBudget", "serving", "attrloop")),
    (disruptions, "no node can be drained", lambda d: the(d, "Deployment", "mlflow")["spec"].update(replicas=1)),
    (
        disruptions,
        "no node can be drained",
        lambda d: the(d, "PodDisruptionBudget", "serving")["spec"].update(maxUnavailable=0),
    ),
    (
        by_reference,
        "a secret in the manifests",
        lambda d: d.append({"kind": "Secret", "metadata": {"name": "mlflow-database", "namespace": "attrloop"}}),
    ),
    (
        by_reference,
        "a secret as a value",
        lambda d: container(d, "StatefulSet", "postgres")["env"].append({"name": "POSTGRES_PASSWORD", "value": "x"}),
    ),
    (
        by_reference,
        "a secret as a value",
        lambda d: container(d)["env"].append(
            {"name": "MLFLOW_BACKEND_STORE_URI", "value": "postgresql://mlflow:x@postgres/mlflow"}
        ),
    ),
    (by_reference, "a secret in the command", lambda d: container(d, name="serving")["args"].append("--api-key=x")),
    (
        by_reference,
        "a secret in a ConfigMap",
        lambda d: d.append(
            {
                "kind": "ConfigMap",
                "metadata": {"name": "settings", "namespace": "attrloop"},
                "data": {"OPENAI_API_KEY": "x"},
            }
        ),
    ),
    (
        known_variables,
        "nothing in the image reads it",
        lambda d: container(d)["env"].append({"name": "MLFLOW_ARTEFACTS_DESTINATION", "value": "gs://b"}),
    ),
    (
        known_variables,
        "nothing in the image reads it",
        lambda d: container(d, name="serving")["env"].append({"name": "MLFLOW_TRACKING_URI", "value": "http://m"}),
    ),
    (
        known_variables,
        "has no value",
        lambda d: container(d)["env"].append({"name": "MLFLOW_TRACKING_URI", "value": ""}),
    ),
    (known_variables, "$(POSTGRES_PASSWORD) is not set before it", lambda d: container(d)["env"].reverse()),
    (
        known_variables,
        "$(MLFLOW_BACKEND_STORE_URI) is not set",
        lambda d: container(d, "Job", "mlflow-migrate")["env"].pop(),
    ),
]


@pytest.mark.parametrize("name", ["local", "gke"])
@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda one: one.__name__)
def test_what_is_shipped_holds_every_invariant(
    overlays: dict[str, list[Document]], name: str, invariant: Callable[..., Any]
) -> None:
    assert [str(problem) for problem in invariant(overlays[name])] == []


@pytest.mark.parametrize(
    ("invariant", "what", "broken"),
    BROKEN,
    ids=[f"{k}-{invariant.__name__}-{what}" for k, (invariant, what, _) in enumerate(BROKEN)],
)
def test_a_broken_copy_is_refused(
    overlays: dict[str, list[Document]], invariant: Callable[..., Any], what: str, broken: Break
) -> None:
    broken(overlays["gke"])
    assert any(what in str(problem) for problem in invariant(overlays["gke"]))


def test_every_invariant_has_a_broken_copy() -> None:
    assert {invariant for invariant, _, _ in BROKEN} == set(INVARIANTS)
