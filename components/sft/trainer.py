"""SFT on a loaded workspace: TRL's trainer with the loss on our encoded batches."""

from typing import Any

import torch
from trl import SFTConfig, SFTTrainer

from attrloop.components.catalogue.prompts import Prompt
from attrloop.components.model.features import noisy
from attrloop.components.model.logprobs import completion_logprobs
from attrloop.components.model.training import rows_dataset, run_trainer, trainer_arguments
from attrloop.components.model.vlm import Vlm
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.workspace import Workspace


def fit(ws: Workspace, stage: Artifact, rows: list[tuple[Prompt, str]]) -> None:
    """Trains a fresh adapter on (prompt, target text) rows and writes it to the stage's folder.

    Raises:
        AttrloopError: a model that cannot be trained (see `Vlm.load`, `Vlm.verify`, `run_trainer`).
    """
    vlm = Vlm.open(ws)
    vlm.verify(images=max(len(prompt.images) for prompt, _ in rows))
    vlm.add_adapter(ws.config.seed)

    def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
        chosen = [rows[item["row"]] for item in batch]
        return vlm.batch(vlm.encode([prompt for prompt, _ in chosen]), [target for _, target in chosen])

    trainer = CompletionTrainer(
        model=vlm.model,
        args=trainer_arguments(SFTConfig, ws.config.sft, stage, vlm, ws.config.seed),
        train_dataset=rows_dataset(len(rows)),
        processing_class=vlm.processor,
        data_collator=collate,
        noise=ws.config.sft.feature_noise,
    )
    run_trainer(trainer, stage)


class CompletionTrainer(SFTTrainer):
    """TRL's SFT with the loss on our encoded batches: mean negative log-likelihood of the completion tokens."""

    def __init__(self, noise: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.noise = noise
        self.model_accepts_loss_kwargs = False  # the loss is a mean: accumulated steps are averaged by the trainer

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        tokens = self.accelerator.reduce(
            inputs["completion_mask"].sum().float(), "mean"
        )  # of all processes, whose losses are averaged
        return -completion_logprobs(model, noisy(inputs, self.noise)).sum() / tokens
