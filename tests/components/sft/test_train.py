"""SFT learns, writes safetensors alone, and a killed training goes on to the very same adapter."""

import json
import logging
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from attrloop.components.errors import AttrloopError
from attrloop.components.model.logprobs import completion_logprobs
from attrloop.components.model.vlm import Vlm
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.config import SampleConfig, SftConfig
from attrloop.components.run.manifest import read_manifest
from attrloop.components.run.workspace import Workspace
from attrloop.components.sft.train import ADAPTER, train, training_rows, warn_of_long_targets
from tests.small import VERTICALS, make_workspace, train_apart, train_until_killed
from tests.tiny import ARCHITECTURES

KILLED_AFTER = 17  # of 48 steps, with a checkpoint every 9: in the midst of an epoch


def weights(workspace: Path) -> dict[str, torch.Tensor]:
    return load_file(workspace / ADAPTER / "adapter_model.safetensors")


def figures(workspace: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (workspace / "sft" / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_the_loss_falls_and_the_adapter_says_what_it_was_taught(
    trained: Callable[[str], Path], architecture: str
) -> None:
    workspace = trained(architecture) / "run"
    losses = [row["loss"] for row in figures(workspace) if "loss" in row]
    assert losses[-1] < 0.8 * losses[0]
    ws = Workspace.open(str(workspace))
    asked, targets = zip(*training_rows(ws), strict=True)
    scores = []
    for adapter in ("", ADAPTER):
        vlm = Vlm.open(ws, adapter)
        with torch.no_grad():
            scores.append(completion_logprobs(vlm.model, vlm.batch(vlm.encode(asked), targets)).sum().item())
    assert scores[1] > 0.8 * scores[0], (
        "log-probabilities are negative: of the targets they have risen by a fifth at least"
    )


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_an_adapter_is_safetensors_of_the_language_model_and_checkpoints_are_dropped(
    trained: Callable[[str], Path], architecture: str
) -> None:
    workspace = trained(architecture) / "run"
    assert {file.suffix for file in (workspace / "sft").rglob("*") if file.is_file()} <= {
        ".safetensors",
        ".json",
        ".jsonl",
        ".md",
        ".parquet",
        ".txt",
    }
    found = weights(workspace)
    learnt = pl.read_parquet(workspace / "sft" / "learnt.parquet")
    by_role = {role: set(rows["listing"]) for (role,), rows in learnt.group_by("role")}
    assert by_role == {
        "trained": {f"{vertical}-{k}" for vertical in VERTICALS for k in range(4)},
        "chosen": {f"{vertical}-{k}" for vertical in VERTICALS for k in (4, 5)},
    }
    assert len(found) == 2 * 2 * 7 and not [name for name in found if "vision" in name or "visual" in name]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory, trained: Callable[[str], Path]) -> Callable[[str], Path]:
    """The workspace of a run that was killed between two checkpoints and started again."""
    folder, made = tmp_path_factory.mktemp("resumed"), {}
    for architecture in ARCHITECTURES:
        made[architecture] = folder / architecture
        ignored = shutil.ignore_patterns("sft", "cache")
        shutil.copytree(trained(architecture) / "run", made[architecture], ignore=ignored)
    train_until_killed(KILLED_AFTER, "sft", [str(path) for path in made.values()])
    return lambda architecture: made[architecture]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_a_killed_training_goes_on_to_the_same_adapter(
    resumed: Callable[[str], Path], trained: Callable[[str], Path], architecture: str
) -> None:
    workspace = resumed(architecture)
    assert [path.name for path in (workspace / "sft" / "checkpoints").glob("checkpoint-*")] == ["checkpoint-9"]
    assert read_manifest(Workspace.open(str(workspace)).store, "sft") is None
    train(str(workspace))
    undisturbed = weights(trained(architecture) / "run")
    for name, value in weights(workspace).items():
        torch.testing.assert_close(value, undisturbed[name], atol=1e-6, rtol=0)
    assert figures(workspace) == figures(trained(architecture) / "run"), "the curve has no seam"


@pytest.mark.slow
def test_a_training_that_is_asked_to_stop_saves_and_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, trained: Callable[[str], Path]
) -> None:
    """SIGTERM in the midst of an epoch, between two checkpoints and between two lines of the metrics file."""
    stopped, undisturbed = tmp_path / "stopped", tmp_path / "undisturbed"
    for folder in (stopped, undisturbed):
        shutil.copytree(trained("qwen2_5_vl") / "run", folder, ignore=shutil.ignore_patterns("sft", "cache"))
    train_until_killed(KILLED_AFTER - 1, "sft", [str(stopped)], signal.SIGTERM)  # which the step after it sees
    kept = {path.name for path in (stopped / "sft" / "checkpoints").glob("checkpoint-*")}
    assert kept == {"checkpoint-9", f"checkpoint-{KILLED_AFTER}"} and not (stopped / ADAPTER).exists()
    train_apart("sft", [str(stopped), str(undisturbed)])
    one, other = (
        [(run / "sft" / name).read_bytes() for name in ("metrics.jsonl", "adapter/adapter_model.safetensors")]
        for run in (stopped, undisturbed)
    )
    assert one == other


def test_a_checkpoint_that_is_half_written_is_passed_over(tmp_path: Path, trained: Callable[[str], Path]) -> None:
    workspace = tmp_path / "run"
    shutil.copytree(trained("qwen2_5_vl") / "run", workspace, ignore=shutil.ignore_patterns("sft"))
    train_until_killed(23, "sft", [str(workspace)])
    checkpoints = workspace / "sft" / "checkpoints"
    assert sorted(path.name for path in checkpoints.glob("checkpoint-*")) == ["checkpoint-18", "checkpoint-9"]
    half = checkpoints / "checkpoint-18"
    (half / "window-0.json").rename(half / "window-0.partial")
    (half / "trainer_state.json").write_bytes(b'{"epoch": 0.')
    train(str(workspace))
    for name, value in weights(workspace).items():
        torch.testing.assert_close(value, weights(trained("qwen2_5_vl") / "run")[name], atol=1e-6, rtol=0)


def test_what_is_finished_is_not_trained_again(copy_of: Callable[[str], Path]) -> None:
    workspace = copy_of("qwen2_5_vl")
    before = {file: file.stat().st_mtime_ns for file in (workspace / "sft").rglob("*")}
    assert train(str(workspace)) == ADAPTER
    assert {file: file.stat().st_mtime_ns for file in (workspace / "sft").rglob("*")} == before


def test_the_first_view_or_each_is_trained_on(tmp_path: Path, base_of: Callable[[str], Path]) -> None:
    for views, images in (("first", 1), ("each", 1), ("all", 2)):
        rows = training_rows(make_workspace(tmp_path / views, base_of("qwen2_5_vl"), sft=SftConfig(views=views)))
        assert len(rows) == (16 if views == "each" else 8)
        assert {len(prompt.images) for prompt, _ in rows} == {images}
    assert not {prompt.images[0] for prompt, _ in rows} & {f"mug-{k}-0.png" for k in range(4, 10)}, (
        "gold and unlabelled listings are not trained on"
    )


@pytest.mark.parametrize(("most", "told"), [(4, True), (40, False)])
def test_targets_that_no_chain_may_be_as_long_as_are_told_before_training(
    tmp_path: Path, base_of: Callable[[str], Path], caplog: pytest.LogCaptureFixture, most: int, told: bool
) -> None:
    ws = make_workspace(tmp_path, base_of("qwen2_5_vl"), sample=SampleConfig(max_new_tokens=most))
    with caplog.at_level(logging.WARNING):
        warn_of_long_targets(ws, training_rows(ws))
    assert ("8 of 8 targets have more than 4 tokens" in caplog.text) == told
    assert ("Set sample.max_new_tokens and evaluate.max_new_tokens to at least" in caplog.text) == told


def test_no_labels_is_an_error_that_says_what_to_do(tmp_path: Path, base_of: Callable[[str], Path]) -> None:
    ws = make_workspace(tmp_path, base_of("qwen2_5_vl"))
    ws.store.remove("annotate")
    stage = Artifact(ws.store, "annotate", {})
    (stage.folder / "labels.jsonl").write_text("")
    stage.finish("labels", {}, ["labels.jsonl"])
    with pytest.raises(AttrloopError, match=r"no labels in the train split. Raise annotate.train_per_vertical"):
        train(ws.store.root)


def test_a_loss_that_is_no_number_is_an_error(tmp_path: Path, base_of: Callable[[str], Path]) -> None:
    ws = make_workspace(
        tmp_path, base_of("qwen2_5_vl"), sft=SftConfig(epochs=3, batch_size=4, learning_rate=1e30, max_grad_norm=1e30)
    )
    with pytest.raises(AttrloopError, match="Lower learning_rate"):
        train(ws.store.root)
    assert read_manifest(ws.store, "sft") is None
