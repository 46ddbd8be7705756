"""SFT on a loaded workspace: batches of labels, and the loss on them."""

from dataclasses import dataclass
from typing import Any

from attrloop.components.catalogue.prompts import Prompt
from attrloop.components.model.features import noisy
from attrloop.components.model.logprobs import completion_logprobs
from attrloop.components.model.training import run_trainer
from attrloop.components.model.trl_trainers import Measured, Reduce, supervised_trainer
from attrloop.components.model.vlm import Vlm
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.workspace import Workspace


def fit(ws: Workspace, artifact: Artifact, rows: list[tuple[Prompt, str]]) -> None:
    """Trains a fresh adapter on (prompt, target text) rows and writes it to the artifact's folder.

    Raises:
        AttrloopError: a model that cannot be trained (see `Vlm.load`, `Vlm.verify`, `run_trainer`).
    """
    vlm = Vlm.open(ws)
    vlm.verify(images=max(len(prompt.images) for prompt, _ in rows))
    vlm.add_adapter(ws.config.seed)

    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        chosen = [rows[item["row"]] for item in items]
        return vlm.batch(vlm.encode([prompt for prompt, _ in chosen]), [target for _, target in chosen])

    trainer = supervised_trainer(
        vlm,
        artifact,
        ws.config.sft,
        seed=ws.config.seed,
        rows=len(rows),
        collate=collate,
        objective=CompletionLoss(ws.config.sft.feature_noise),
    )
    run_trainer(trainer, artifact)


@dataclass(frozen=True)
class CompletionLoss:
    """The mean negative log-likelihood of a batch's completion tokens.

    Attributes:
        noise: see `features.noisy`.
    """

    noise: float

    def measure(self, model: Any, batch: dict[str, Any], reduce: Reduce) -> Measured:
        """See `trl_trainers.Objective`."""
        tokens = reduce(batch["completion_mask"].sum().float(), "mean")  # of all processes: their losses are averaged
        return Measured(-completion_logprobs(model, noisy(batch, self.noise)).sum() / tokens)

    def alarms(self, means: dict[str, float]) -> dict[str, float]:
        """SFT has no alarms."""
        return {}
