"""Values that a person fills in: the `settings.env` of an overlay, whose keys have a form each, and the images."""

import re
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from attrloop.components.errors import Problem
from manifests.check.build import ROOT, UNSET, Document, containers, name_of

IMAGES = ROOT / "components/images/kustomization.yaml"
NO_REGISTRY = "registry.invalid"  # what the images' placeholders begin with


def _like(pattern: str) -> Callable[[str], bool]:
    return lambda value: re.fullmatch(pattern, value) is not None


def _network(value: str) -> bool:
    try:
        return "/" in value and bool(ip_network(value))
    except ValueError:
        return False


FORMS: dict[str, tuple[Callable[[str], bool], str]] = {
    "project": (
        _like(r"([a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,28}[a-z0-9]"),
        "the id of a project, such as my-project-1",
    ),
    "iamDomain": (_like(r"[a-z][a-z0-9.-]*\.iam\.gserviceaccount\.com"), "<project>.iam.gserviceaccount.com"),
    "artifacts": (_like(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[^/\s]+)+"), "gs://<bucket>/<folder>"),
    "clusterName": (_like(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?"), "the name of a cluster"),
    "clusterLocation": (_like(r"[a-z]+-[a-z]+[0-9]+(-[a-z])?"), "a region or zone, such as europe-west4"),
    "controlPlane": (_network, "a network, such as 172.16.0.2/32"),
    "baseModel": (_like(r"[\w.-]+/[\w.-]+"), "a model of the hub, such as Qwen/Qwen2.5-VL-3B-Instruct"),
    "baseRevision": (_like(r"[0-9a-f]{40}"), "a commit of 40 digits"),
    "servingReplicas": (_like(r"[0-9]+"), "a number of pods"),
}


def wrong_settings(overlay: Path) -> list[Problem]:
    """Every setting whose value does not have the form of its key; placeholders are not checked."""
    found = []
    for where, key, value in _settings(overlay):
        fits, form = FORMS.get(key, (None, ""))
        if fits is None:
            found.append(Problem(where, "unknown setting", f"Use one of: {', '.join(FORMS)}"))
        elif UNSET not in value and not fits(value):
            found.append(Problem(where, f"{value!r} has the wrong form", f"Give {form}"))
    return found


def placeholders(documents: list[Document], overlay: Path) -> list[Problem]:
    """Every value that has to be replaced before the documents can be applied."""
    images = sorted(
        {
            container["image"]
            for _, _, container in containers(documents)
            if UNSET in container["image"] or NO_REGISTRY in container["image"]
        }
    )
    found = [
        Problem(
            f"{IMAGES}: {image.partition('@')[0].rpartition('/')[2]}", f"placeholder {image}", "Give newName and digest"
        )
        for image in images
    ]
    unset = [
        Problem(where, f"placeholder {value}", f"Give {FORMS[key][1]}")
        for where, key, value in _settings(overlay)
        if UNSET in value
    ]
    if not unset:  # placeholders that come from elsewhere
        texts = (
            (document, path, text)
            for document in documents
            for path, text in _texts(document)
            if UNSET in text and text not in images
        )
        unset = [
            Problem(f"{name_of(document)}: {path}", f"placeholder {text}", f"Set it in {overlay}")
            for document, path, text in texts
        ]
    return found + unset


def _settings(overlay: Path) -> Iterator[tuple[str, str, str]]:
    """Every setting: where it is, its key, its value."""
    file = overlay.resolve() / "settings.env"
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines() if file.is_file() else (), 1):
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            yield f"{file}:{number}: {key}", key, value


def _texts(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield path, node
    for key, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from _texts(child, f"{path}.{key}".strip("."))
