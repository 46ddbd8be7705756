"""Builds overlays and checks the documents against the schemas of Kubernetes and of the custom resources."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from pydantic import ValidationError

from attrloop.components.errors import AttrloopError, Problem
from manifests.check.crds import RESOURCES

ROOT = Path(__file__).parents[1]
OVERLAYS = ("local", "gke")
KUBERNETES = "1.34"  # the oldest that is supported; newer ones only add to it

UNSET = "REPLACE"  # what every placeholder contains

Document = dict[str, Any]


def build(overlay: Path) -> list[Document]:
    """The documents that `kubectl apply -k` would send.

    Raises:
        AttrloopError: kustomize cannot build the overlay.
    """
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", overlay], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AttrloopError(f"kustomize cannot build {overlay}: {done.stderr.strip()}")
    return list(yaml.load_all(done.stdout, yaml.CSafeLoader))


def name_of(document: Document) -> str:
    """Namespace, kind and name of a document, such as `attrloop/Deployment/mlflow`."""
    metadata = document.get("metadata", {})
    return "/".join(filter(None, (metadata.get("namespace"), document.get("kind"), metadata.get("name"))))


def schema_problems(documents: list[Document]) -> list[Problem]:
    """Unknown kinds, unknown fields, wrong types and missing fields, of every document."""
    found = [problem for document in documents for problem in _schema_problems(document)]
    names = [(document.get("apiVersion"), name_of(document)) for document in documents]
    twice = sorted({name for version, name in names if names.count((version, name)) > 1})
    return found + [Problem(name, "occurs twice", "Remove one") for name in twice]


def _schema_problems(document: Document) -> list[Problem]:
    where, remedy = name_of(document), "Correct the field"
    model = RESOURCES.get((str(document.get("apiVersion")), str(document.get("kind"))))
    try:
        if model:
            model.model_validate(document)
        else:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except ValidationError as error:
        return [Problem(f"{where}: {'.'.join(map(str, one['loc']))}", one["msg"], remedy) for one in error.errors()]
    except kubernetes_validate.ValidationError as error:
        return [Problem(f"{where}: {'.'.join(map(str, error.absolute_path))}", error.message[:300], remedy)]
    except kubernetes_validate.SchemaNotFoundError:
        return [
            Problem(
                where,
                f"{document['apiVersion']} has no kind {document['kind']}",
                "Correct it, or describe a custom resource in manifests/check/crds.py",
            )
        ]
    return []


def of_kind(documents: list[Document], *kinds: str) -> list[Document]:
    """The documents of these kinds, in order."""
    return [document for document in documents if document["kind"] in kinds]


def pods(documents: list[Document]) -> list[tuple[Document, Document]]:
    """Every workload with its pod template."""
    return [
        (one, one["spec"]["template"]) for one in of_kind(documents, "Deployment", "StatefulSet", "DaemonSet", "Job")
    ] + [(one, one["spec"]["jobTemplate"]["spec"]["template"]) for one in of_kind(documents, "CronJob")]


def containers(documents: list[Document]) -> list[tuple[str, Document, Document]]:
    """Every container: where it is, the spec of its pod, the container itself."""
    return [
        (f"{name_of(owner)}: container {container['name']}", template["spec"], container)
        for owner, template in pods(documents)
        for container in [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]
    ]
