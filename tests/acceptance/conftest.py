"""What acceptance tests share: a rendered catalogue, its annotator, and finished runs, each built on a shorter one."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from attrloop.components.run.config import RunConfig
from attrloop.components.run.state import LoopState
from attrloop.components.tracking.server import connect
from attrloop.pipelines.demo.demo import KEY_ENV
from attrloop.pipelines.demo.products import write_catalogue
from attrloop.pipelines.demo.stand_in import serving
from tests.acceptance.world import SIZES, copy_run, world_config


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunConfig]:
    """The config of a run over the rendered catalogue; its annotator is at work as long as the tests are."""
    catalogue = tmp_path_factory.mktemp("world") / "catalogue"
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
def run_of(world: RunConfig, compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Done]]:
    """A finished run of the compiled pipeline: `run_of(iterations=1)`, built on the run `like` where one is given."""
    from attrloop.pipelines.local.runner import run_pipeline

    root, made = tmp_path_factory.mktemp("runs"), dict[tuple[int, float], Done]()
    (root / "store").mkdir()
    connect(f"sqlite:///{root}/store/mlflow.db")

    def get(iterations: int, min_gain: float = -1.0, like: Done | None = None) -> Done:
        if (iterations, min_gain) not in made:
            folder = root / f"{iterations}-{min_gain}"
            if like:
                workspace = copy_run(like.workspace, folder, "register", "promote")
            else:
                folder.mkdir()
                workspace = folder / "run"
            shutil.copy(root / "store" / "mlflow.db", folder)
            config = world.model_copy(update={"loop": world.loop.model_copy(update={"min_gain": min_gain})})
            (folder / "config.yaml").write_text(config.model_dump_json())
            arguments = {
                "config": str(folder / "config.yaml"),
                "workspace": str(workspace),
                "overrides": json.dumps({"loop.iterations": iterations}),
            }
            output = run_pipeline(compiled, arguments, workspace, Console(quiet=True))
            made[iterations, min_gain] = Done(workspace, LoopState.model_validate_json(output))
        return made[iterations, min_gain]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_ENV, "any")
        yield get
