"""A Kubeflow server, a catalogue with its config, and the compiled loop."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import kfp
import pytest

from attrloop.components.base_images import PLACEHOLDER
from attrloop.components.storage.opening import open_store
from attrloop.pipelines.definitions.compile import Name, compile_to
from attrloop.pipelines.submit.submission import Wanted
from attrloop.pipelines.submit.submit import Destination

ROOT = Path(__file__).parents[3]
IMAGE = f"registry.example/attrloop@sha256:{'0' * 64}"


@dataclass
class Server:
    """The server's process, which can be stopped and started again with what it knew."""

    state: Path
    port: int = 0
    url: str = ""
    process: Any = field(default=None, repr=False)

    def start(self) -> "Server":
        command = [
            sys.executable,
            "-m",
            "tests.pipelines.submit.server",
            "--state",
            str(self.state),
            "--port",
            str(self.port),
        ]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        self.port = int(self.url.rpartition(":")[2])
        httpx2.get(f"{self.url}/apis/v2beta1/healthz", timeout=20, trust_env=False).raise_for_status()
        return self

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def set(self, **settings: Any) -> None:
        """Sets `script`, `faults`, `needs` or `multi_user`."""
        httpx2.post(f"{self.url}/control", json=settings, trust_env=False).raise_for_status()

    def fault(self, kind: str, match: str, times: int = 1, **details: Any) -> None:
        self.set(faults=[{"kind": kind, "match": match, "times": times, **details}])

    def seen(self) -> dict[str, Any]:
        return httpx2.get(f"{self.url}/control", trust_env=False).json()

    def rows(self, kind: str) -> list[dict[str, Any]]:
        return list(self.seen()[kind].values())

    def sent(self) -> list[str]:
        """Every request that would change something."""
        return [what for what in self.seen()["requests"] if not what.startswith("GET")]

    def official(self, **options: Any) -> kfp.Client:
        return kfp.Client(host=self.url, **options)

    def attrloop(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """The command line, started in a process of its own."""
        command = [sys.executable, "-m", "attrloop.pipelines.cli.main", *arguments, "--host", self.url]
        return subprocess.Popen(
            command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def destination(self, **options: Any) -> Destination:
        return Destination(**{"host": self.url, "patience": 5, **options})


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps tests from the official client's context file in the home folder, and from its variables."""
    monkeypatch.setattr(kfp.Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "home" / "context.json"))
    for name in (
        "KF_PIPELINES_ENDPOINT",
        "KF_PIPELINES_IAP_OAUTH2_CLIENT_ID",
        "ATTRLOOP_RUNS",
        "ATTRLOOP_AUTH",
        "ATTRLOOP_REVISION",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of all tests: starting one takes a second."""
    server = Server(tmp_path_factory.mktemp("kubeflow") / "state.json").start()
    yield server
    server.stop()


@pytest.fixture
def server(running: Server) -> Server:
    """The server, as if it had just been started for the first time."""
    if running.process.poll() is not None:
        running.start()
    running.set(reset=True)
    return running


@pytest.fixture(scope="session")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_images(tmp_path_factory.mktemp("compiled") / "loop.yaml")


def with_images(path: Path, name: Name = "loop") -> Path:
    """A pipeline as it is compiled where the environment names images."""
    compile_to(path, name, max_iterations=1)
    path.write_text(path.read_text().replace(PLACEHOLDER, IMAGE))
    return path


@pytest.fixture
def config(tmp_path: Path, bucket: str) -> Path:
    """A run config over a catalogue of one listing, in a bucket."""
    shop = open_store(f"{bucket}/shop")
    shop.write("schema.yaml", b"verticals:\n  mug: {attributes: {lid: {values: [lid, none]}}}\n")
    shop.write("listings.jsonl", json.dumps({"id": "m1", "vertical": "mug", "images": ["m1.png"]}).encode())
    path = tmp_path / "config.yaml"
    path.write_text(
        f"name: mugs\ndata: {{catalogue_schema: {bucket}/shop/schema.yaml, listings: {bucket}/shop/listings.jsonl}}\n"
        "model: {base: some/model}\nloop: {iterations: 1}\n"
    )
    return path


@pytest.fixture
def wanted(config: Path, loop: Path, bucket: str) -> Wanted:
    return Wanted(str(config), loop, runs=f"{bucket}/runs", revision="abc123")


def options(wanted: Wanted) -> list[str]:
    """What is wanted, as the command line takes it."""
    return [wanted.config, "--pipeline", str(wanted.pipeline), "--runs", wanted.runs, "--revision", wanted.revision]
