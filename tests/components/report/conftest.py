from collections.abc import Callable
from pathlib import Path

import pytest

from tests.evaluated import Run, build


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run; tests must not change it."""
    return build(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Run]:
    """Builds a run of its own: `make(verticals=2, gold=4)`."""
    return lambda **sizes: build(tmp_path, **sizes)
