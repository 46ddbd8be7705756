"""A known environment for every test, and what many of them share: tiny models, a small trained run, a bucket."""

import inspect
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.emulator import Gateway

# Settings of the person who runs the tests would change what they see. Subprocesses inherit this environment.
PERSONAL = (
    *("ATTRLOOP_", "MLFLOW_", "OPENAI_", "KF_PIPELINES_", "KUBEFLOW_", "KUBERNETES_"),
    *("AWS_", "CLOUDSDK_", "GOOGLE_", "STORAGE_EMULATOR_", "HF_", "HUGGING_FACE_", "TRANSFORMERS_", "VLLM_"),
)
for _name in [name for name in os.environ if name.startswith(PERSONAL) or name.lower().endswith("_proxy")]:
    del os.environ[_name]
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# The models are tiny: threads would wait for one another, and for those of the tests beside.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def stack_without_sources() -> Iterator[None]:
    """kfp asks for its caller's name on every task, and `inspect.stack` reads the source of every frame for it.

    Below pytest, in a process that has imported torch, that takes seconds a compilation. The name is the same without.
    """
    from kfp.dsl import pipeline_task

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_task, "inspect", SimpleNamespace(stack=partial(inspect.stack, 0)))
        yield


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


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, base_of: Callable[[str], Path]) -> Callable[[str], Path]:
    """The folder of a small workspace of an architecture after SFT, undisturbed: to be read and copied, not changed."""
    from attrloop.components.sft.train import train
    from tests.small import make_workspace

    made: dict[str, Path] = {}

    def get(architecture: str) -> Path:
        if architecture not in made:
            made[architecture] = tmp_path_factory.mktemp("trained") / architecture
            train(make_workspace(made[architecture], base_of(architecture)).store.root)
        return made[architecture]

    return get


@pytest.fixture
def copy_of(trained: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """The workspace of a copy of `trained(architecture)`: of the run alone, over the same catalogue."""

    def get(architecture: str) -> Path:
        shutil.copytree(trained(architecture) / "run", tmp_path / architecture, dirs_exist_ok=True)
        return tmp_path / architecture

    return get


@pytest.fixture(scope="session")
def _bucket_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is read from buckets is cached in a folder of the session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTRLOOP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an MLflow store with nothing in it, to be copied: making one takes seconds."""
    from attrloop.components.tracking.server import connect

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    connect(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def emulated(_bucket_cache: None) -> Iterator[str]:
    """The URL of an emulator of Google Cloud Storage."""
    from tests.emulator import emulator

    with emulator() as url:
        yield url


@pytest.fixture(scope="session")
def emulated_s3(_bucket_cache: None) -> Iterator[str]:
    """The URL of an emulator of S3."""
    from tests.emulator import s3_emulator

    with s3_emulator() as url:
        yield url


@pytest.fixture
def scheme() -> str:
    """The kind of `bucket`; tests of what holds for every kind override this."""
    return "gs"


@pytest.fixture
def emulator_url(request: pytest.FixtureRequest, scheme: str) -> str:
    """The URL of the emulator for `scheme`."""
    return request.getfixturevalue({"gs": "emulated", "s3": "emulated_s3"}[scheme])


@pytest.fixture
def bucket(emulator_url: str, scheme: str) -> str:
    """The URI of an empty bucket."""
    from tests.emulator import new_bucket

    return new_bucket(scheme)


@pytest.fixture
def faulty(emulator_url: str, scheme: str, monkeypatch: pytest.MonkeyPatch) -> Iterator["Gateway"]:
    """A gateway between this test's clients and the emulator; it does no harm until it is told to."""
    from tests.emulator import gateway

    with gateway(emulator_url, scheme) as between:
        monkeypatch.setenv(between.kind.variable, between.url)
        yield between
