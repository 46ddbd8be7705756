"""The overlays as kustomize builds them, once."""

from copy import deepcopy

import pytest

from manifests.check.build import OVERLAYS, ROOT, Document, build


@pytest.fixture(scope="session")
def _built() -> dict[str, list[Document]]:
    return {name: build(ROOT / "overlays" / name) for name in OVERLAYS}


@pytest.fixture
def overlays(_built: dict[str, list[Document]]) -> dict[str, list[Document]]:
    """Documents by overlay: a copy that a test may break."""
    return deepcopy(_built)
