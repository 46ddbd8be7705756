"""A run that is killed (SIGKILL, all processes) in every stage and started again ends like an undisturbed one."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from attrloop.components.run.config import RunConfig
from tests.acceptance.conftest import Done
from tests.acceptance.world import finished, metrics, pairs, run_to_end, run_until, write_config

pytestmark = pytest.mark.slow

ITERATION = "iteration-1"


def replies(workspace: Path) -> bytes:
    """Everything that was paid for, the oldest first."""
    return b"".join(file.read_bytes() for file in sorted(workspace.glob("annotate-cache/*/replies.jsonl")))


def tracked_runs(workspace: Path) -> int:
    """Runs in the tracking store beside a workspace; 0 while it is locked."""
    try:
        with sqlite3.connect(f"file:{workspace.parent}/mlflow.db?mode=ro", uri=True, timeout=0) as store:
            return int(store.execute("select count(*) from runs").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


# A stage's folder, and how to tell that the stage is in the midst of its work.
STAGES: dict[str, tuple[str, Callable[[Path], bool]]] = {
    "annotate": ("annotate", lambda w: replies(w).count(b"\n") >= 3),
    "sft": ("sft", lambda w: len(list((w / "sft/checkpoints").glob("checkpoint-*/window-0.json"))) >= 2),
    "sample": (f"{ITERATION}/chains", lambda w: len(list((w / ITERATION / "chains").glob("shard-*.parquet"))) >= 3),
    "mine": (f"{ITERATION}/pairs", lambda w: (w / ITERATION / "pairs/inputs.json").exists()),
    "dpo": (f"{ITERATION}/dpo", lambda w: any((w / ITERATION / "dpo/checkpoints").glob("checkpoint-*/window-0.json"))),
    "evaluate": (
        f"evaluate/validation/{ITERATION}",
        lambda w: any((w / f"evaluate/validation/{ITERATION}/shards").glob("shard-*.parquet")),
    ),
    "register": ("register", lambda w: (w / "register/inputs.json").exists() and tracked_runs(w) >= 2),
}


def kill_in(stage: str, config: Path, workspace: Path) -> None:
    """Runs until a stage is at work, and kills it there; tries again when it had just finished."""
    folder, reached = STAGES[stage]
    for _ in range(5):
        run_until(config, workspace, reached)
        if not (workspace / folder / "manifest.json").exists():
            return
        shutil.rmtree(workspace / folder)
    raise AssertionError(f"{stage} was never caught at work")


def shards(workspace: Path) -> dict[Path, int]:
    """What an unfinished stage has put down for good, and when."""
    return {
        file: file.stat().st_mtime_ns
        for pattern in ("iteration-*/chains/shard-*.parquet", "evaluate/*/*/shards/*.parquet")
        for file in workspace.glob(pattern)
    }


def expect_same(workspace: Path, undisturbed: Path) -> None:
    assert pairs(workspace) == pairs(undisturbed) and pairs(workspace)
    assert metrics(workspace) == metrics(undisturbed) and len(metrics(workspace)) == 6
    for adapter in ("sft/adapter", f"{ITERATION}/dpo/adapter"):
        wanted = load_file(undisturbed / adapter / "adapter_model.safetensors")
        for name, value in load_file(workspace / adapter / "adapter_model.safetensors").items():
            torch.testing.assert_close(value, wanted[name], atol=1e-6, rtol=0)
    summaries = (json.loads((run / "summary.json").read_text()) for run in (workspace, undisturbed))
    one, other = (
        [{key: stage[key] for key in ("name", "validation", "test", "pairs")} for stage in summary["stages"]]
        for summary in summaries
    )
    assert one == other


def test_a_run_killed_in_every_stage_ends_as_an_undisturbed_one(
    world: RunConfig, run_of: Callable[..., Done], empty_store: Path, tmp_path: Path
) -> None:
    workspace = tmp_path / "run"
    config = write_config(
        world.model_copy(update={"loop": world.loop.model_copy(update={"iterations": 1})}), tmp_path / "config.yaml"
    )
    shutil.copy(empty_store, tmp_path)
    done: dict[str, int] = {}
    for stage in STAGES:
        kill_in(stage, config, workspace)
        now = finished(workspace)
        assert done.items() <= now.items(), f"something finished was done again before {stage}"
        done = now
        kept = shards(workspace)
        if stage == "annotate":
            asked = replies(workspace)
        if stage == "sample":
            assert 3 <= len(kept) < 8
            sampled = kept
    run_to_end(config, workspace)
    assert done.items() <= finished(workspace).items()
    assert sampled.items() <= shards(workspace).items(), "finished shards were sampled again"
    undisturbed = run_of(1, like=run_of(0)).workspace
    assert replies(workspace).startswith(asked), "answers that were paid for are kept"
    assert replies(workspace).count(b"\n") <= replies(undisturbed).count(b"\n") + world.annotate.concurrency
    expect_same(workspace, undisturbed)
    with sqlite3.connect(workspace.parent / "mlflow.db") as store:
        assert store.execute("select count(*) from runs").fetchone() == (4,), "the loop and its three stages, once each"
        assert store.execute("select count(*) from model_versions").fetchone() == (1,)
    before = finished(workspace)
    run_to_end(config, workspace)
    assert finished(workspace) == before, "a run that is complete does nothing"
