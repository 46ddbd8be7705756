"""DPO starts from the previous adapter, its reference; the loss is the documented one; a kill changes nothing."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from attrloop.components.catalogue import prompts
from attrloop.components.catalogue.prompts import Prompt
from attrloop.components.catalogue.records import Pair
from attrloop.components.dpo.loss import LOSSES
from attrloop.components.dpo.train import train
from attrloop.components.dpo.trainer import PairCollator, PreferenceLoss, reference_logprobs
from attrloop.components.model.logprobs import completion_logprobs
from attrloop.components.model.vlm import Vlm
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.manifest import read_manifest
from attrloop.components.run.workspace import Workspace
from attrloop.components.sft.train import ADAPTER
from tests.small import change_config, some_pairs, train_apart, train_until_killed, write_pairs
from tests.tiny import ARCHITECTURES

STAGE = "iteration-1"
FOLDER = f"{STAGE}/dpo"
STILL = {"learning_rate": 1e-12, "warmup": 0.0}  # steps that leave the weights where they are
KILLED_AFTER = 14  # of 24 steps, with a checkpoint every 9: in the midst of an epoch


@pytest.fixture
def open_copy(copy_of: Callable[[str], Path]) -> Callable[..., Workspace]:
    """A workspace after SFT with pairs: `open_copy("qwen2_5_vl", dpo={"epochs": 1})`."""

    def get(architecture: str, pairs: list[Pair] | None = None, **changes: dict[str, Any]) -> Workspace:
        workspace = copy_of(architecture)
        change_config(workspace, **changes)
        ws = Workspace.open(str(workspace))
        write_pairs(ws, some_pairs(ws) if pairs is None else pairs)
        return ws

    return get


def adapter_of(ws: Workspace, path: str) -> dict[str, torch.Tensor]:
    return load_file(ws.store.folder(path) / "adapter_model.safetensors")


def figures(ws: Workspace) -> list[dict[str, float]]:
    return [json.loads(line) for line in (ws.store.folder(FOLDER) / "metrics.jsonl").read_text().splitlines()]


@torch.no_grad()
def logprobs_of(ws: Workspace, vlm: Vlm, pairs: list[Pair]) -> torch.Tensor:
    """Log-probabilities of chosen and rejected chains (0 if there is none), by whole sequences: float32 [pairs, 2]."""
    rows = []
    for pair in pairs:
        listing = ws.listings[pair.listing]
        encoded = vlm.encode([Prompt(ws.question(listing, pair.attribute), prompts.shown(listing, pair.view))])
        texts = (pair.chosen, pair.rejected)
        rows.append(
            [completion_logprobs(vlm.model, vlm.batch(encoded, [text])).sum().item() if text else 0.0 for text in texts]
        )
    return torch.tensor(rows)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_the_reference_is_the_previous_adapter_and_not_the_base(
    open_copy: Callable[..., Workspace], architecture: str
) -> None:
    ws = open_copy(architecture, dpo={"epochs": 2, "batch_size": 3})
    train(ws.store.root, STAGE, ADAPTER)
    used = load_file(ws.store.folder(FOLDER) / "reference.safetensors")["logprobs"]
    torch.testing.assert_close(used, logprobs_of(ws, Vlm.open(ws, ADAPTER), some_pairs(ws)), atol=1e-3, rtol=0)
    base = logprobs_of(ws, Vlm.open(ws), some_pairs(ws))
    assert (used - base)[:, 0].abs().min() > 1, "here SFT has made a difference to every chosen chain"


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_training_starts_where_the_reference_is(open_copy: Callable[..., Workspace], architecture: str) -> None:
    ws = open_copy(architecture, dpo={"epochs": 5, **STILL})
    train(ws.store.root, STAGE, ADAPTER)
    rows = [row for row in figures(ws) if "logps/chosen_change" in row]
    assert rows
    for row in rows:
        assert (
            abs(row["logps/chosen_change"]) < 1e-3
            and abs(row["logps/rejected_change"]) < 1e-3
            and abs(row["rewards/margins"]) < 1e-3
        )
    previous = adapter_of(ws, ADAPTER)
    for name, value in adapter_of(ws, f"{FOLDER}/adapter").items():
        torch.testing.assert_close(value, previous[name], atol=1e-6, rtol=0)


def test_the_second_iteration_has_the_first_as_its_reference(open_copy: Callable[..., Workspace]) -> None:
    ws = open_copy("qwen2_5_vl", dpo={"epochs": 6})
    first = train(ws.store.root, STAGE, ADAPTER)
    write_pairs(ws, some_pairs(ws), "iteration-2")
    train(ws.store.root, "iteration-2", first)
    used = load_file(ws.store.folder("iteration-2/dpo") / "reference.safetensors")["logprobs"]
    torch.testing.assert_close(used, logprobs_of(ws, Vlm.open(ws, first), some_pairs(ws)), atol=1e-3, rtol=0)
    assert (used - logprobs_of(ws, Vlm.open(ws, ADAPTER), some_pairs(ws))).abs().max() > 1


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_the_loss_is_weighted_dpo_and_nll_on_the_chosen_with_anchors(
    open_copy: Callable[..., Workspace], architecture: str
) -> None:
    ws = open_copy(architecture, dpo={"beta": 0.3, "nll": 0.7})
    pairs = some_pairs(ws)
    vlm = Vlm.open(ws, ADAPTER, trainable=True)
    collate = PairCollator(ws, vlm, pairs)
    collate.reference = reference_logprobs(vlm, collate, Artifact(ws.store, FOLDER, {}), 4)
    torch.manual_seed(0)
    for weight in vlm.model.parameters():
        if weight.requires_grad:
            weight.data += 0.05 * torch.randn_like(weight)  # away from the reference
    vlm.model.eval()
    batch = collate([{"row": k} for k in range(len(pairs))])
    loss = PreferenceLoss(ws.config.dpo).measure(vlm.model, batch, lambda value, _: value).loss.item()
    now, reference = logprobs_of(ws, vlm, pairs), logprobs_of(ws, Vlm.open(ws, ADAPTER), pairs)
    total = 0.0
    for pair, (chosen, rejected), (chosen_before, rejected_before) in zip(pairs, now, reference, strict=True):
        tokens = len(vlm.tokenizer(pair.chosen, add_special_tokens=False)["input_ids"]) + 1
        total += 0.7 * pair.weight * -chosen / tokens
        if pair.rejected is not None:
            margin = (chosen - chosen_before) - (rejected - rejected_before)
            total += pair.weight * torch.log1p(torch.exp(-0.3 * margin))
    assert loss == pytest.approx(float(total / len(pairs)), rel=1e-4)
    assert {pair.weight for pair in pairs} == {1.0, 0.5, 0.25} and any(pair.rejected is None for pair in pairs)


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_the_chosen_gain_on_the_rejected(open_copy: Callable[..., Workspace], architecture: str) -> None:
    ws = open_copy(architecture)
    train(ws.store.root, STAGE, ADAPTER)
    pairs = [pair for pair in some_pairs(ws) if pair.rejected]
    before, after = (logprobs_of(ws, Vlm.open(ws, adapter), pairs) for adapter in (ADAPTER, f"{FOLDER}/adapter"))
    gain = after - before
    assert (gain[:, 0] > gain[:, 1] + 1).all() and gain[:, 0].mean() > 0
    files = {file.suffix for file in ws.store.folder(FOLDER).rglob("*") if file.is_file()}
    assert files <= {".safetensors", ".json", ".jsonl", ".md", ".parquet", ".txt"}, "no pickle"
    learnt = pl.read_parquet(ws.store.folder(FOLDER) / "learnt.parquet")
    trained = set(learnt.filter(pl.col("role") == "trained")["listing"])
    assert trained >= {pair.listing for pair in pairs} | {label.listing for label in ws.labels("train")}
    assert trained.isdisjoint({label.listing for label in ws.labels("validation")})
    assert not {name for name in adapter_of(ws, f"{FOLDER}/adapter") if "ref" in name.split(".")}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, trained: Callable[[str], Path]) -> Callable[[str], Path]:
    """The workspace of a run that was killed between two of DPO's checkpoints."""
    folder = tmp_path_factory.mktemp("killed")
    for architecture in ARCHITECTURES:
        shutil.copytree(trained(architecture) / "run", folder / architecture)
        ws = Workspace.open(str(folder / architecture))
        write_pairs(ws, some_pairs(ws))
    train_until_killed(KILLED_AFTER, STAGE, [str(folder / architecture) for architecture in ARCHITECTURES])
    return lambda architecture: folder / architecture


@pytest.mark.slow
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_a_killed_training_goes_on_to_the_same_adapter(
    killed: Callable[[str], Path], open_copy: Callable[..., Workspace], architecture: str
) -> None:
    ws, undisturbed = Workspace.open(str(killed(architecture))), open_copy(architecture)
    folder = ws.store.folder(FOLDER)
    assert [path.name for path in (folder / "checkpoints").glob("checkpoint-*")] == ["checkpoint-9"]
    written = (folder / "reference.safetensors").stat().st_mtime_ns
    train(ws.store.root, STAGE, ADAPTER)
    train(undisturbed.store.root, STAGE, ADAPTER)
    wanted = adapter_of(undisturbed, f"{FOLDER}/adapter")
    for name, value in adapter_of(ws, f"{FOLDER}/adapter").items():
        torch.testing.assert_close(value, wanted[name], atol=1e-6, rtol=0)
    assert (folder / "reference.safetensors").stat().st_mtime_ns == written, "the reference is computed once"
    assert [row["step"] for row in figures(ws)] == [row["step"] for row in figures(undisturbed)]


@pytest.mark.slow
def test_a_training_that_is_asked_to_stop_saves_and_goes_on_as_if_nothing_had_happened(
    open_copy: Callable[..., Workspace], tmp_path: Path
) -> None:
    """SIGTERM in the midst of an epoch, between two checkpoints and between two lines of the metrics file."""
    stopped = open_copy("qwen2_5_vl")
    shutil.copytree(stopped.store.root, tmp_path / "undisturbed")
    train_until_killed(KILLED_AFTER - 1, STAGE, [stopped.store.root], signal.SIGTERM)  # which the step after it sees
    kept = {path.name for path in stopped.store.folder(f"{FOLDER}/checkpoints").glob("checkpoint-*")}
    assert kept == {"checkpoint-9", f"checkpoint-{KILLED_AFTER}"}
    train_apart(STAGE, [stopped.store.root, str(tmp_path / "undisturbed")])
    one, other = (
        [(Path(run) / FOLDER / name).read_bytes() for name in ("metrics.jsonl", "adapter/adapter_model.safetensors")]
        for run in (stopped.store.root, tmp_path / "undisturbed")
    )
    assert one == other and one[0].count(b"rewards/margins") >= 3


def test_a_reference_that_was_kept_is_the_one_compared_with(open_copy: Callable[..., Workspace]) -> None:
    ws = open_copy("qwen2_5_vl", dpo={"epochs": 1, "batch_size": 16, **STILL})
    collate = PairCollator(ws, Vlm.open(ws, ADAPTER), some_pairs(ws))
    stage = Artifact(ws.store, FOLDER, {})
    kept = torch.zeros(len(collate.pairs), 2)
    save_file({"logprobs": kept}, stage.folder / "reference.safetensors")
    assert torch.equal(reference_logprobs(collate.vlm, collate, stage, 4), kept)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LOSSES if name != "sigmoid"])
def test_every_loss_trains(open_copy: Callable[..., Workspace], name: str) -> None:
    smoothing = 0.1 if name == "robust" else 0.0
    ws = open_copy("qwen2_5_vl", dpo={"loss": name, "label_smoothing": smoothing, "nll": 0.0, "epochs": 12})
    train(ws.store.root, STAGE, ADAPTER)
    rows = [row for row in figures(ws) if "preference_loss" in row]
    assert rows[-1]["preference_loss"] < rows[0]["preference_loss"]
    pairs = [pair for pair in some_pairs(ws) if pair.rejected]
    before, after = (logprobs_of(ws, Vlm.open(ws, adapter), pairs) for adapter in (ADAPTER, f"{FOLDER}/adapter"))
    gain = after - before
    assert (gain[:, 0] - gain[:, 1]).mean() > 1


def test_another_loss_trains_anew(open_copy: Callable[..., Workspace]) -> None:
    ws = open_copy("qwen2_5_vl", dpo={"epochs": 1})
    first = adapter_of(ws, train(ws.store.root, STAGE, ADAPTER))
    change_config(Path(ws.store.root), dpo={"loss": "ipo"})
    second = adapter_of(ws, train(ws.store.root, STAGE, ADAPTER))
    assert any(not torch.equal(value, first[name]) for name, value in second.items())


def test_without_pairs_the_previous_adapter_stays(open_copy: Callable[..., Workspace]) -> None:
    ws = open_copy("qwen2_5_vl", pairs=[])
    assert train(ws.store.root, STAGE, ADAPTER) == ADAPTER
    assert read_manifest(ws.store, FOLDER) is not None
    assert train(ws.store.root, STAGE, ADAPTER) == ADAPTER, "and when it is asked again"


def test_anchors_alone_are_trained_on(open_copy: Callable[..., Workspace], copy_of: Callable[[str], Path]) -> None:
    anchors = [pair for pair in some_pairs(Workspace.open(str(copy_of("qwen2_5_vl")))) if pair.rejected is None]
    ws = open_copy("qwen2_5_vl", pairs=anchors)
    train(ws.store.root, STAGE, ADAPTER)
    before, after = (logprobs_of(ws, Vlm.open(ws, adapter), anchors) for adapter in (ADAPTER, f"{FOLDER}/adapter"))
    assert after[:, 0].sum() > before[:, 0].sum() + 1


def test_what_is_finished_is_reused_and_other_pairs_are_trained_on_anew(open_copy: Callable[..., Workspace]) -> None:
    ws = open_copy("qwen2_5_vl", dpo={"epochs": 2})
    path = train(ws.store.root, STAGE, ADAPTER)
    times = {file: file.stat().st_mtime_ns for file in ws.store.folder(FOLDER).rglob("*")}
    assert train(ws.store.root, STAGE, ADAPTER) == path == f"{FOLDER}/adapter"
    assert {file: file.stat().st_mtime_ns for file in ws.store.folder(FOLDER).rglob("*")} == times
    first = adapter_of(ws, path)
    write_pairs(ws, some_pairs(ws)[:5])
    train(ws.store.root, STAGE, ADAPTER)
    assert any(not torch.equal(value, first[name]) for name, value in adapter_of(ws, path).items())
    assert load_file(ws.store.folder(FOLDER) / "reference.safetensors")["logprobs"].shape == (5, 2)


def test_an_alarm_tells_that_the_chosen_lose_likelihood(
    open_copy: Callable[..., Workspace], caplog: pytest.LogCaptureFixture
) -> None:
    alike = [
        pair.model_copy(update={"rejected": pair.chosen + "."})
        for pair in some_pairs(open_copy("qwen2_5_vl"))
        if pair.rejected
    ]
    alarms = []
    for settings in ({"epochs": 5, **STILL}, {"nll": 0.0, "beta": 1.0, "learning_rate": 0.05, "epochs": 20}):
        ws = open_copy("qwen2_5_vl", pairs=alike, dpo=settings)
        assert "raise dpo.nll or lower dpo.learning_rate" not in caplog.text
        train(ws.store.root, STAGE, ADAPTER)
        rows = [row for row in figures(ws) if "logps/chosen_change" in row]
        assert all(row["alarm/chosen_logps_fell"] == (row["logps/chosen_change"] < -1) for row in rows)
        alarms.append(max(row["alarm/chosen_logps_fell"] for row in rows))
    assert alarms == [0.0, 1.0]
    assert "raise dpo.nll or lower dpo.learning_rate" in caplog.text
