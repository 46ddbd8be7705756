"""Supervised fine-tuning: LoRA on 'rationale + answer' targets of the labelled training listings."""

import logging
import time
from typing import Any

import attrloop.components.shared.torchvision_operators  # noqa: F401

import torch
from trl import SFTConfig, SFTTrainer

from attrloop.components.shared import prompts
from attrloop.components.shared.errors import AttrloopError
from attrloop.components.shared.storage import Stage, read_manifest
from attrloop.components.shared.training import KeepCheckpoints, Metrics, rows_dataset, run_trainer, save_adapter, trainer_arguments
from attrloop.components.shared.vlm import Prompt, Vlm, completion_logprobs, noisy
from attrloop.components.shared.workspace import Workspace

log = logging.getLogger(__name__)
ADAPTER = "sft/adapter"


def train(workspace: str) -> str:
    """Trains the first adapter; a killed run goes on from its last checkpoint.

    Args:
        workspace: URI of the run's workspace; reads the train labels, writes `sft/adapter/` and `sft/metrics.jsonl`.

    Returns:
        The adapter's path in the workspace.

    Raises:
        AttrloopError: no training labels, or a model that cannot be trained (see `Vlm.load`, `run_trainer`).
    """
    ws = Workspace.open(workspace)
    labels = read_manifest(ws.store, "annotate")
    made_from = {"labels": labels.digest if labels else "", "config": ws.config.digest("model", "prompt", "sft"), "data": ws.data_digest}
    stage = Stage(ws.store, "sft", made_from)
    if stage.manifest is not None:
        log.info("reusing %s", ADAPTER)
        return ADAPTER
    started = time.monotonic()
    rows = training_rows(ws)
    if not rows:
        raise AttrloopError("There are no labels in the train split. Raise annotate.train_per_vertical or give data.labels.")
    vlm = Vlm.open(ws)
    vlm.verify(images=max(len(prompt.images) for prompt, _ in rows))
    vlm.add_adapter(ws.config.seed)

    def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
        chosen = [rows[item["row"]] for item in batch]
        return vlm.batch(vlm.encode([prompt for prompt, _ in chosen]), [target for _, target in chosen])

    arguments = SFTConfig(**trainer_arguments(ws.config.sft, stage, vlm, ws.config.seed))
    trainer = CompletionTrainer(
        model=vlm.model,
        args=arguments,
        train_dataset=rows_dataset(len(rows)),
        processing_class=vlm.processor,
        data_collator=collate,
        callbacks=[Metrics(stage.folder / "metrics.jsonl", "sft"), KeepCheckpoints(stage)],
        noise=ws.config.sft.feature_noise,
    )
    run_trainer(trainer, stage)
    save_adapter(vlm.model, stage)
    stage.finish("adapter", {"rows": len(rows), "seconds": time.monotonic() - started}, ["adapter", "metrics.jsonl"])
    return ADAPTER


def training_rows(ws: Workspace) -> list[tuple[Prompt, str]]:
    """(prompt, target text) for every training label and view, in the labels' order."""
    rows = []
    for label in ws.labels("train"):
        listing = ws.listings[label.listing]
        text = ws.question(listing, label.attribute)
        target = prompts.completion(label.rationale, label.value)
        rows += [(Prompt(text, prompts.shown(listing, view)), target) for view in prompts.views_of(listing, ws.config.sft.views)]
    return rows


class CompletionTrainer(SFTTrainer):
    """TRL's SFT with the loss on our encoded batches: mean negative log-likelihood of the completion tokens."""

    def __init__(self, noise: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.noise = noise
        self.model_accepts_loss_kwargs = False  # the loss is a mean: accumulated steps are averaged by the trainer

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> torch.Tensor:
        return -completion_logprobs(model, noisy(inputs, self.noise)).sum() / inputs["completion_mask"].sum()
