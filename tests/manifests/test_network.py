"""The connections that the loop needs are allowed, and those that an intruder would like are not."""

import pytest

from manifests.check.build import Document
from tests.manifests.flows import allowed, end

PUBLIC, INTERNAL, METADATA, GOOGLE = "203.0.113.7", "10.0.0.7", "169.254.169.254", "199.36.153.8"
ALLOWED = [
    ("attrloop-runs/step", "attrloop/mlflow", 5000),
    ("attrloop-runs/step", "kubeflow/api", 8887),
    ("attrloop-runs/step", PUBLIC, 443),
    ("attrloop-runs/step", METADATA, 80),
    ("attrloop-runs/step", GOOGLE, 443),
    ("attrloop/mlflow", "attrloop/postgres", 5432),
    ("attrloop/mlflow-migrate", "attrloop/postgres", 5432),
    ("attrloop/mlflow", GOOGLE, 443),
    ("attrloop/serving", "attrloop/mlflow", 5000),
    ("attrloop/base-model", PUBLIC, 443),
    ("attrloop-runs/base-model", PUBLIC, 443),
    ("shop/web", "attrloop/serving", 8000),
    ("monitoring/prometheus", "attrloop/serving", 8000),
]
REFUSED = [
    ("attrloop-runs/step", "attrloop/postgres", 5432),
    ("attrloop-runs/step", "attrloop/serving", 8000),
    ("attrloop-runs/step", "attrloop-runs/another", 8080),
    ("attrloop-runs/step", INTERNAL, 443),
    ("attrloop-runs/step", PUBLIC, 22),
    ("attrloop/serving", "attrloop/postgres", 5432),
    ("attrloop/serving", PUBLIC, 443),
    ("attrloop/serving", GOOGLE, 443),
    ("attrloop/mlflow", PUBLIC, 443),
    ("attrloop/postgres", PUBLIC, 443),
    ("attrloop/base-model", INTERNAL, 443),
    ("attrloop/base-model", PUBLIC, 80),
    ("attrloop/base-model", "attrloop/postgres", 5432),
    ("attrloop/base-model", "attrloop/mlflow", 5000),
    ("elsewhere/pod", "attrloop/mlflow", 5000),
    ("elsewhere/pod", "attrloop/serving", 8000),
    ("elsewhere/pod", "attrloop/postgres", 5432),
    ("elsewhere/pod", "attrloop-runs/step", 8080),
]


@pytest.mark.parametrize(("source", "target", "port"), ALLOWED)
def test_what_the_loop_needs_is_allowed(
    overlays: dict[str, list[Document]], source: str, target: str, port: int
) -> None:
    documents = overlays["gke"]
    assert allowed(documents, end(documents, source), end(documents, target), port)


@pytest.mark.parametrize(("source", "target", "port"), REFUSED)
def test_everything_else_is_refused(overlays: dict[str, list[Document]], source: str, target: str, port: int) -> None:
    documents = overlays["gke"]
    assert not allowed(documents, end(documents, source), end(documents, target), port)


@pytest.mark.parametrize("namespace", ["attrloop", "attrloop-runs"])
@pytest.mark.parametrize("overlay", ["local", "gke"])
def test_names_are_resolved_everywhere(overlays: dict[str, list[Document]], overlay: str, namespace: str) -> None:
    documents = overlays[overlay]
    for protocol in ("UDP", "TCP"):
        assert allowed(documents, end(documents, f"{namespace}/any"), end(documents, "kube-system/dns"), 53, protocol)


@pytest.mark.parametrize("namespace", ["attrloop", "attrloop-runs"])
@pytest.mark.parametrize("address", [METADATA, "169.254.20.10"])
def test_gkes_own_name_servers_are_reached(overlays: dict[str, list[Document]], namespace: str, address: str) -> None:
    documents = overlays["gke"]
    for protocol in ("UDP", "TCP"):
        assert allowed(documents, end(documents, f"{namespace}/any"), end(documents, address), 53, protocol)


def test_steps_reach_the_control_plane_of_their_overlay_alone(overlays: dict[str, list[Document]]) -> None:
    address = end([], "172.18.0.2")
    assert allowed(overlays["local"], end([], "attrloop-runs/step"), address, 6443)
    assert not allowed(overlays["local"], end([], "attrloop/serving"), address, 6443)
    assert not allowed(overlays["gke"], end([], "attrloop-runs/step"), address, 6443)


def test_without_the_default_a_pod_is_open(overlays: dict[str, list[Document]]) -> None:
    documents = [
        one for one in overlays["gke"] if one["metadata"]["name"] not in ("default-deny", "serving", "dns", "node")
    ]
    assert allowed(documents, end(documents, "attrloop/serving"), end(documents, PUBLIC), 443)
