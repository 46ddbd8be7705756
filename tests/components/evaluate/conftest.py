from collections.abc import Callable
from pathlib import Path

import pytest

from attrloop.components.run.config import RunConfig
from attrloop.components.run.workspace import Workspace
from tests.evaluated import catalogue, labels


@pytest.fixture
def world() -> Callable[[Path, RunConfig], Workspace]:
    """Makes a workspace with a small catalogue and its labels, and nothing else: `world(folder, config)`."""

    def made(folder: Path, config: RunConfig) -> Workspace:
        listings, truth = catalogue(folder, 2, 6)
        ws = Workspace.create(str(folder / "run"), config)
        labels(ws, listings, truth, 2)
        return ws

    return made
