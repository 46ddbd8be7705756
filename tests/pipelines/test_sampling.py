"""Sampling by several workers in kfp.local: the files are the same, and only a task that is killed is tried again."""

import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kfp import compiler, dsl

from attrloop.components.console import PlainConsole
from attrloop.components.run.manifest import read_manifest
from attrloop.components.sample_chains.component import share_out
from attrloop.components.storage.opening import open_store
from attrloop.pipelines.definitions.cluster import Cluster
from attrloop.pipelines.definitions.iteration import build_sampling, uncached
from attrloop.pipelines.definitions.resources import Resources, with_resources
from attrloop.pipelines.local.runner import run_pipeline

CLUSTER = Cluster(retries=1, back_off=0, at_once=1)
ADAPTER = "sft/adapter"
sampling = build_sampling(CLUSTER)


@dsl.component(base_image="attrloop-python:dev", install_kfp_package=False)
def then(workspace: str) -> bool:
    """Stands for what follows: whether the chains are finished when it is its turn."""
    from attrloop.components.run.manifest import read_manifest
    from attrloop.components.storage.opening import open_store

    return read_manifest(open_store(workspace), "iteration-1/chains") is not None


@dsl.pipeline(name="alone")
@with_resources(CLUSTER, "sample")
def alone(workspace: str, workers: int, resources: Resources) -> bool:
    divided = share_out(workspace=workspace, stage="iteration-1", adapter=ADAPTER, workers=workers)
    chains = sampling(
        workspace=workspace,
        stage="iteration-1",
        adapter=ADAPTER,
        shares=divided.output,
        **resources.handed_on(sampling),
    )
    after = then(workspace=workspace).after(chains)
    uncached(divided, chains, after)
    return after.output


@contextmanager
def killing_once(workspace: Path, share: str) -> Iterator[list[int]]:
    """Kills (SIGKILL) the first process that samples a share in a workspace; yields the list of processes killed."""
    killed: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not killed and not over.wait(0.05):
            killed.extend(
                number
                for number in map(int, filter(str.isdigit, os.listdir("/proc")))
                if samples(number, workspace, share)
            )
        for number in killed:
            os.kill(number, signal.SIGKILL)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def samples(number: int, workspace: Path, share: str) -> bool:
    """Whether a process is a step of a pipeline that samples this share."""
    try:
        words = Path(f"/proc/{number}/cmdline").read_text()
    except OSError:
        return False
    return (
        words.startswith(sys.executable)
        and "executor_main" in words
        and str(workspace) in words
        and f'"{share}"' in words
    )


def run(workspace: Path, workers: int) -> tuple[bytes, ...]:
    """Runs the pipeline; returns the parts."""
    compiler.Compiler().compile(alone, str(workspace / "alone.yaml"))
    assert (
        run_pipeline(
            workspace / "alone.yaml",
            {"workspace": str(workspace), "workers": workers},
            workspace,
            PlainConsole(quiet=True),
        )
        is True
    )
    return tuple(file.read_bytes() for file in sorted((workspace / "iteration-1" / "chains").glob("shard-*.parquet")))


@pytest.mark.slow
def test_a_worker_that_is_killed_is_tried_again_alone_and_the_chains_are_those_of_one(
    trained: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("one", "three"):
        shutil.copytree(trained("qwen2_5_vl") / "run", tmp_path / name, ignore=shutil.ignore_patterns("cache"))
    undisturbed = run(tmp_path / "one", 1)
    with killing_once(tmp_path / "three", "2/3") as killed:
        assert run(tmp_path / "three", 3) == undisturbed and len(undisturbed) == 5
    (log,) = (tmp_path / "three" / "logs").iterdir()
    ends = re.findall(r"'sample-chains' finished with status (FAILURE|SUCCESS)", log.read_text())
    assert killed and sorted(ends) == ["FAILURE", "SUCCESS", "SUCCESS", "SUCCESS"]
    one, three = (read_manifest(open_store(tmp_path / name), "iteration-1/chains") for name in ("one", "three"))
    assert one and three and one.digest == three.digest
