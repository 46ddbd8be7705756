"""The whole loop in the images that a cluster runs: unprivileged, with a read-only root file system and a bucket.

Needs a docker engine and the images: `make test-images` builds them, sets TEST_IMAGES to the file with their names, and
runs this. The bucket is an emulator's. MLflow's server runs in an image too.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import polars as pl
import pytest
from docker.errors import DockerException
from kfp import local
from mlflow import MlflowClient

from attrloop.components.console import PlainConsole
from attrloop.components.promote.promote import rollback
from attrloop.components.run.config import DataConfig, RunConfig, TrackingConfig
from attrloop.components.run.state import LoopState
from attrloop.components.storage.opening import open_store
from attrloop.components.storage.store import Store
from attrloop.pipelines.demo.demo import KEY_ENV
from attrloop.pipelines.local.runner import run_pipeline
from tests.acceptance.conftest import Done
from tests.emulator import new_bucket, upload, versions

IMAGES = os.environ.get("TEST_IMAGES", "")  # such as build/images.env
NAMES = dict(line.split("=", 1) for line in Path(IMAGES).read_text().splitlines()) if IMAGES else {}
LABEL = "attrloop-test"
BASE = "/opt/source/attrloop/pipelines/demo/base"  # of the embedded world's model, in every image
TRAINER = ("preflight", "sft", "evaluate", "sample_chains", "dpo", "evaluate_test")
STEPS = [
    "preflight",
    "annotate",
    "sft",
    "evaluate",
    "should_run",
    "latest_adapter",
    "share_out",
    "sample_chains",
    "mine_pairs",
    "dpo",
    "evaluate",
]
STEPS += ["evaluate_test", "register_adapter", "promote", "report"]
CATALOGUE = ["prepare_prediction", "fetch_adapter", "share_out_catalogue", "predict", "review_queue"]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not IMAGES, reason="needs images: make test-images")]


@dataclass(frozen=True)
class Ran:
    """A run of the loop.

    Attributes:
        containers: what docker says of each that was started, in order.
        killed: the steps whose container was killed.
    """

    state: LoopState
    containers: list[dict[str, Any]]
    killed: list[str]


@dataclass(frozen=True)
class Cluster:
    """What a run needs around it.

    Attributes:
        bucket: URI of the bucket with the catalogue and the runs.
        tracking: URL of the MLflow server, which keeps artifacts in `mlflow/` of the bucket.
        folder: of this machine, with `loop.yaml` and `predict.yaml`, compiled for the images.
    """

    client: docker.DockerClient
    bucket: str
    tracking: str
    folder: Path

    def loop(
        self, config: RunConfig, name: str, kill: dict[str, Callable[[], bool]] | None = None, iterations: int = 1
    ) -> Ran:
        """Runs the loop in the workspace `runs/<name>` of the bucket; see `run`."""
        overrides = json.dumps({"loop.iterations": iterations})
        output, containers, killed = self.run("loop", config, name, kill or {}, overrides=overrides)
        return Ran(LoopState.model_validate_json(output), containers, killed)

    def run(
        self, pipeline: str, config: RunConfig, name: str, kill: dict[str, Callable[[], bool]], **arguments: Any
    ) -> tuple[str, list[dict[str, Any]], list[str]]:
        """Runs a pipeline in the workspace `runs/<name>` of the bucket.

        Args:
            kill: steps whose first container is killed as soon as what they are given is true.

        Returns:
            the pipeline's output, and containers and killed steps as in `Ran`.
        """
        open_store(f"{self.bucket}/configs").write(f"{name}.json", config.model_dump_json().encode())
        folder = self.folder / name
        (folder / "kfp").mkdir(parents=True)
        (folder / "kfp").chmod(0o777)  # where steps leave what the Kubeflow UI shows
        given = {"config": f"{self.bucket}/configs/{name}.json", "workspace": f"{self.bucket}/runs/{name}", **arguments}
        # Nothing of this machine but its network.
        emulator = os.environ["STORAGE_EMULATOR_HOST"]
        runner = local.DockerRunner(
            network_mode="host",
            read_only=True,
            tmpfs={"/tmp": "exec,mode=1777"},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            labels=[LABEL],
            environment={"STORAGE_EMULATOR_HOST": emulator, KEY_ENV: "any", "OMP_NUM_THREADS": "1"},
        )
        with self._watching(kill) as (seen, killed):
            output = run_pipeline(self.folder / f"{pipeline}.yaml", given, folder, PlainConsole(quiet=True), runner)
        return output, list(seen.values()), killed

    @contextmanager
    def _watching(self, kill: dict[str, Callable[[], bool]]) -> Iterator[tuple[dict[str, dict[str, Any]], list[str]]]:
        """Notes what containers look like while they run, for they are gone afterwards, and kills some."""
        seen, killed, done = dict[str, dict[str, Any]](), list[str](), threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                for container in self.client.containers.list(filters={"label": LABEL}, ignore_removed=True):
                    seen.setdefault(container.id, container.attrs)
                    step = step_of(container.attrs)
                    if step in kill and step not in killed and kill[step]():
                        container.kill()
                        killed.append(step)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield seen, killed
        finally:
            done.set()
            thread.join()


def image(name: str) -> str:
    """Name of an image, as docker knows it."""
    return NAMES[f"ATTRLOOP_{name.upper()}_IMAGE"]


def step_of(attributes: dict[str, Any]) -> str:
    """Name of the component that a container was started for."""
    command = attributes["Config"]["Cmd"]
    return command[command.index("--function_to_execute") + 1]


@pytest.fixture(scope="module")
def cluster(world: RunConfig, emulated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    try:
        client = docker.from_env()
        client.ping()
    except DockerException as error:
        pytest.skip(f"no docker engine answers: {error}")
    # In a process of its own, because components read their image's name when they are imported.
    code = "import sys; from pathlib import Path; from attrloop.pipelines.definitions.compile import *\n"
    code += "folder = Path(sys.argv[1])\n"
    code += "for name in ('loop', 'predict'): compile_to(folder / f'{name}.yaml', name, 1, Cluster(back_off=1))"
    subprocess.run([sys.executable, "-c", code, str(folder)], env=os.environ | NAMES, check=True)
    with served(client, bucket := new_bucket()) as tracking:
        upload(Path(world.data.listings).parent, f"{bucket}/catalogue")
        yield Cluster(client, bucket, tracking, folder)


@contextmanager
def served(client: docker.DockerClient, bucket: str) -> Iterator[str]:
    """MLflow's server in the worker's image, as the manifests start it, but for its database."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    environment = {
        "MLFLOW_BACKEND_STORE_URI": "sqlite:////tmp/mlflow.db",
        "MLFLOW_ARTIFACTS_DESTINATION": f"{bucket}/mlflow",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "STORAGE_EMULATOR_HOST": os.environ["STORAGE_EMULATOR_HOST"],
    }
    command = ["mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    container = client.containers.run(
        image("worker"),
        command,
        detach=True,
        network_mode="host",
        read_only=True,
        tmpfs={"/tmp": "exec,mode=1777"},
        environment=environment,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=2):
                    break
            except OSError:
                container.reload()
                assert container.status != "exited", container.logs().decode()[-3000:]
                time.sleep(0.5)
        yield url
    finally:
        container.remove(force=True)


@pytest.fixture(scope="module")
def config(world: RunConfig, cluster: Cluster) -> RunConfig:
    catalogue = f"{cluster.bucket}/catalogue"
    data = {
        "catalogue_schema": f"{catalogue}/schema.yaml",
        "listings": f"{catalogue}/listings.jsonl",
        "labels": f"{catalogue}/labels.jsonl",
    }
    return world.model_copy(
        update={
            "data": DataConfig.model_validate(world.data.model_dump() | data),
            "model": world.model.model_copy(update={"base": BASE}),
            "tracking": TrackingConfig(uri=cluster.tracking, experiment="containers", model_name="container-adapter"),
        }
    )


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, config: RunConfig) -> Ran:
    return cluster.loop(config, "undisturbed")


def test_the_loop_turns_in_containers(cluster: Cluster, undisturbed: Ran, run_of: Callable[..., Done]) -> None:
    assert [step_of(container) for container in undisturbed.containers] == STEPS
    for container in undisturbed.containers:
        assert container["Config"]["User"] == "10001:10001" and container["HostConfig"]["ReadonlyRootfs"]
        assert container["Config"]["Image"] == image("trainer" if step_of(container) in TRAINER else "worker")
    here, there = (
        [(outcome.stage, outcome.macro) for outcome in state.outcomes] for state in (run_of(1).state, undisturbed.state)
    )
    assert here == there, "as without containers"
    (version,) = MlflowClient(cluster.tracking).search_model_versions("name = 'container-adapter'")
    assert version.tags["stage"] == undisturbed.state.best.stage
    assert any(
        name.endswith("adapter_model.safetensors") for name in open_store(f"{cluster.bucket}/mlflow").list("")
    ), "MLflow keeps them in the bucket"
    assert b"data:image/jpeg" in open_store(f"{cluster.bucket}/runs/undisturbed").read("report.html")


def test_containers_that_are_killed_are_tried_again_and_go_on(
    cluster: Cluster, config: RunConfig, undisturbed: Ran
) -> None:
    store, wanted = (open_store(f"{cluster.bucket}/runs/{name}") for name in ("killed", "undisturbed"))
    sampled: dict[str, str] = {}

    def samples() -> bool:
        sampled.update(shards(store))
        return len(sampled) >= 3

    def trains() -> bool:
        return any("window-0.json" in name for name in store.list("iteration-1/dpo/checkpoints"))

    ran = cluster.loop(config, "killed", {"sample_chains": samples, "dpo": trains})
    assert ran.killed == ["sample_chains", "dpo"] and ran.state == undisturbed.state
    tried = Counter(step_of(container) for container in ran.containers)
    assert tried == Counter(STEPS) + Counter(ran.killed), "the killed steps once more, and no other"
    assert shards(store).items() > sampled.items(), "no shard that was kept is sampled again"
    for same in (
        "iteration-1/pairs/pairs.parquet",
        "iteration-1/dpo/metrics.jsonl",
        "iteration-1/dpo/adapter/adapter_model.safetensors",
    ):
        assert store.read(same) == wanted.read(same), same
    told, expected = (
        [(s["name"], s["validation"], s["test"]) for s in json.loads(run.read("summary.json"))["stages"]]
        for run in (store, wanted)
    )
    assert told == expected


def test_another_run_has_its_adapter_compared_with_the_champion(
    cluster: Cluster, config: RunConfig, undisturbed: Ran
) -> None:
    """The champion is decoded in the image that can; the one that decides about promotion cannot."""
    rollback(f"{cluster.bucket}/runs/undisturbed", to="1", reason="so small a test set proves nothing")
    ran = cluster.loop(config.model_copy(update={"seed": 1}), "another", iterations=0)
    assert [step_of(container) for container in ran.containers][-4:] == STEPS[-4:]
    store = open_store(f"{cluster.bucket}/runs/another")
    assert store.exists("evaluate/test/champion-1/predictions.parquet")
    assert json.loads(store.read("promote/result.json"))["against"] == "version 1"


def test_the_champion_predicts_a_catalogue(
    cluster: Cluster, config: RunConfig, undisturbed: Ran, world: RunConfig
) -> None:
    rollback(f"{cluster.bucket}/runs/undisturbed", to="1")
    queue, containers, _ = cluster.run("predict", config, "predicted", {}, workers_count=2)
    assert Counter(step_of(container) for container in containers) == Counter(CATALOGUE) + Counter(["predict"]), (
        "two share it"
    )
    assert {container["Config"]["Image"] for container in containers if step_of(container) == "predict"} == {
        image("trainer")
    }
    store = open_store(f"{cluster.bucket}/runs/predicted")
    answered = pl.concat(
        pl.read_parquet(store.file(path)) for path in store.list("predictions") if path.endswith(".parquet")
    )
    assert answered["listing"].n_unique() == len(Path(world.data.listings).read_text().splitlines())
    assert any(path.endswith("/tasks.json") for path in store.list(queue)), "what a person should look at"


def shards(store: Store) -> dict[str, str]:
    """Sampled shards, and which writing of it each is."""
    return versions(f"{store.root}/iteration-1/chains/shard-")
