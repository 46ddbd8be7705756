"""What acceptance tests share: a rendered catalogue, its annotator, and finished runs, each built on a shorter one."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from attrloop.components.console import PlainConsole
from attrloop.components.run.config import RunConfig
from attrloop.components.run.state import LoopState
from attrloop.pipelines.demo.demo import KEY_ENV
from attrloop.pipelines.demo.products import write_catalogue
from attrloop.pipelines.demo.stand_in import serving
from tests.acceptance.world import SIZES, copy_run, world_config, write_config


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the workers of pytest-xdist share."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "acceptance"
    folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Lets one worker at a time make what lies at a path."""
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def world(shared: Path) -> Iterator[RunConfig]:
    """The config of a run over the rendered catalogue; its annotator is at work as long as the tests are."""
    catalogue = shared / "catalogue"
    with alone(catalogue):
        write_catalogue(catalogue, 0, SIZES)
    with serving(catalogue) as base_url:
        yield world_config(catalogue, base_url)


@dataclass(frozen=True)
class Done:
    """A finished run.

    Attributes:
        state: what the pipeline returned.
    """

    workspace: Path
    state: LoopState


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YAML that `attrloop compile` writes."""
    from typer.testing import CliRunner

    from attrloop.pipelines.cli.main import app

    path = tmp_path_factory.mktemp("compiled") / "attribute-loop.yaml"
    assert CliRunner().invoke(app, ["compile", "-o", str(path)]).exit_code == 0
    return path


@pytest.fixture(scope="session")
def run_of(world: RunConfig, compiled: Path, empty_store: Path, shared: Path) -> Iterator[Callable[..., Done]]:
    """A finished run of the compiled pipeline: `run_of(iterations=1)`, built on the run `like` where one is given.

    A run that another worker has finished is used.
    """
    from attrloop.pipelines.local.runner import run_pipeline

    def get(iterations: int, min_gain: float = -1.0, like: Done | None = None) -> Done:
        folder = shared / f"{iterations}-{min_gain}"
        output = folder / "output.json"
        with alone(folder):
            if not output.exists():
                if like:
                    copy_run(like.workspace, folder, "register", "promote")
                folder.mkdir(exist_ok=True)
                shutil.copy(empty_store, folder)
                config = world.model_copy(update={"loop": world.loop.model_copy(update={"min_gain": min_gain})})
                arguments = {
                    "config": str(write_config(config, folder / "config.yaml")),
                    "workspace": str(folder / "run"),
                    "overrides": json.dumps({"loop.iterations": iterations}),
                }
                output.write_text(run_pipeline(compiled, arguments, folder / "run", PlainConsole(quiet=True)))
        return Done(folder / "run", LoopState.model_validate_json(output.read_text()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_ENV, "any")
        yield get
