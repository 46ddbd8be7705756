"""The embedded world at its smallest: the config of its runs, the command that runs them, and what a run leaves."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrloop.components.run.config import (
    DpoConfig,
    EvaluateConfig,
    LoopConfig,
    PromoteConfig,
    RunConfig,
    SampleConfig,
    SftConfig,
)
from attrloop.pipelines.demo.demo import KEY_ENV, demo_config
from attrloop.pipelines.demo.products import Sizes

SIZES = Sizes(unlabelled=60, validation=24, test=12)


def world_config(catalogue: Path, base_url: str) -> RunConfig:
    """The demo's config made small, with checkpoints, shards and parts small enough that a kill falls between them."""
    demo = demo_config(catalogue, base_url)
    return demo.model_copy(
        update={
            "name": "small",
            "data": demo.data.model_copy(update={"check_images": 10}),
            "annotate": demo.annotate.model_copy(update={"train_per_vertical": 1, "concurrency": 2}),
            "sft": SftConfig(learning_rate=2e-3, epochs=10, batch_size=8, feature_noise=0.7, checkpoint_steps=4),
            "sample": SampleConfig(chains=4, views="each", max_new_tokens=16, batch_size=64, shard_size=10),
            "dpo": DpoConfig(learning_rate=1e-3, epochs=3, batch_size=8, nll=2.0, checkpoint_steps=3),
            "evaluate": EvaluateConfig(batch_size=4, max_new_tokens=16, bootstrap=100, report_examples=4),
            "loop": LoopConfig(iterations=0, min_gain=-1.0),
            "promote": PromoteConfig(min_gold=1, resamples=200),
        }
    )


def write_config(config: RunConfig, path: Path) -> Path:
    """The config as a file for the command line (JSON is YAML)."""
    path.write_text(config.model_dump_json())
    return path


def start(config: Path, workspace: Path) -> subprocess.Popen[bytes]:
    """`attrloop run` as a person starts it, in a process group of its own."""
    environment = os.environ | {KEY_ENV: "any"}
    command = [sys.executable, "-m", "attrloop.pipelines.cli.main", "run", str(config), "--workspace", str(workspace)]
    with (workspace.parent / "run.log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def run_to_end(config: Path, workspace: Path) -> None:
    process = start(config, workspace)
    assert process.wait(600) == 0, (workspace.parent / "run.log").read_text()[-3000:]


def run_until(config: Path, workspace: Path, reached: Callable[[Path], bool]) -> None:
    """Starts a run and kills (SIGKILL) it and all its processes as soon as `reached(workspace)`."""
    process = start(config, workspace)
    try:
        while not reached(workspace):
            assert process.poll() is None, (workspace.parent / "run.log").read_text()[-3000:]
            time.sleep(0.002)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def finished(workspace: Path) -> dict[str, int]:
    """The finished stages, and when each was; without preflight, which looks anew every time."""
    stages = {
        str(file.parent.relative_to(workspace)): file.stat().st_mtime_ns for file in workspace.rglob("manifest.json")
    }
    return {stage: time_ns for stage, time_ns in stages.items() if stage != "preflight"}


def pairs(workspace: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(workspace)): file.read_bytes()
        for file in workspace.glob("iteration-*/pairs/pairs.parquet")
    }


def metrics(workspace: Path) -> dict[str, Any]:
    """All figures of all stages on both splits."""
    return {
        str(file.relative_to(workspace)): json.loads(file.read_text())
        for file in workspace.glob("evaluate/*/*/metrics.json")
    }


def copy_run(workspace: Path, to: Path, *left_out: str) -> Path:
    """A copy of a workspace and of the tracking store beside it, as the only run of its folder."""
    to.mkdir()
    if (workspace.parent / "mlflow.db").exists():
        shutil.copy(workspace.parent / "mlflow.db", to)
    shutil.copytree(workspace, to / "run", ignore=shutil.ignore_patterns("kfp", "logs", *left_out))
    return to / "run"
