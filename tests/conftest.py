"""Tiny models of every architecture, built once."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model: `base_of("qwen2_5_vl")`."""
    from tests.tiny import ARCHITECTURES

    made: dict[str, Path] = {}

    def get(architecture: str) -> Path:
        if architecture not in made:
            made[architecture] = ARCHITECTURES[architecture](tmp_path_factory.mktemp("bases") / architecture)
        return made[architecture]

    return get
