"""DPO from the previous adapter, with the previous adapter as the reference: weighted pairs, NLL on the chosen, anchors."""

import logging
import time
from typing import Any

import polars as pl
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from trl import DPOConfig, DPOTrainer

import attrloop.components.shared.torchvision_operators  # noqa: F401 - before transformers
from attrloop.components.shared import prompts
from attrloop.components.shared.records import Pair
from attrloop.components.shared.storage import Stage, read_manifest
from attrloop.components.shared.training import KeepCheckpoints, Metrics, rows_dataset, run_trainer, save_adapter, trainer_arguments
from attrloop.components.shared.vlm import Prompt, Vlm, completion_logprobs
from attrloop.components.shared.workspace import Workspace, progress

log = logging.getLogger(__name__)
_REFERENCE = "reference.safetensors"


def train(workspace: str, stage: str, adapter: str) -> str:
    """Trains one iteration's adapter.

    The reference log-probabilities are those of `adapter`, computed once before the first step and kept, so that a resumed run compares
    with the same reference.

    Args:
        workspace: URI of the run's workspace.
        stage: `iteration-<k>`; reads its pairs, writes `<stage>/dpo/adapter/` and `<stage>/dpo/metrics.jsonl`.
        adapter: path of the previous adapter: where training starts, and the reference.

    Returns:
        The new adapter's path; `adapter` itself when there are no pairs.

    Raises:
        AttrloopError: see `run_trainer`.
    """
    ws = Workspace.open(workspace)
    upstream = {name: read_manifest(ws.store, path) for name, path in (("pairs", f"{stage}/pairs"), ("adapter", adapter.removesuffix("/adapter")))}
    made_from = {name: manifest.digest if manifest else "" for name, manifest in upstream.items()}
    output = Stage(ws.store, f"{stage}/dpo", made_from | {"config": ws.config.digest("model", "prompt", "dpo"), "data": ws.data_digest})
    path = f"{stage}/dpo/adapter"
    if output.manifest is not None:
        log.info("reusing %s", path)
        return path if output.manifest.counts["rows"] else adapter
    started = time.monotonic()
    pairs = [Pair(**row) for row in pl.read_parquet(ws.store.folder(f"{stage}/pairs") / "pairs.parquet").iter_rows(named=True)]
    if not pairs:
        log.warning("%s has no pairs: the adapter stays as it is", stage)
        output.finish("adapter", {"rows": 0, "seconds": 0}, [])
        return adapter
    vlm = Vlm.open(ws, adapter, trainable=True)
    collate = PairCollator(ws, vlm, pairs)
    collate.reference = reference_logprobs(vlm, collate, output, ws.config.dpo.batch_size)
    trainer = WeightedDPOTrainer(
        model=vlm.model,
        args=DPOConfig(**trainer_arguments(ws.config.dpo, output, vlm, ws.config.seed), beta=ws.config.dpo.beta),
        train_dataset=rows_dataset(len(pairs)),
        processing_class=vlm.processor,
        data_collator=collate,
        callbacks=[Metrics(output.folder / "metrics.jsonl", f"{stage} dpo"), KeepCheckpoints(output)],
        nll=ws.config.dpo.nll,
    )
    run_trainer(trainer, output)
    save_adapter(vlm.model, output)
    counts = {"rows": len(pairs), "anchors": sum(pair.rejected is None for pair in pairs), "seconds": time.monotonic() - started}
    output.finish("adapter", counts, ["adapter", "metrics.jsonl"])
    return path


class PairCollator:
    """Makes batches of pairs: the chosen chains' rows first, then the rejected ones', both on the image that the rejected chain saw.

    An anchor has no rejected chain: its chosen one stands in the rejected half, and `has_rejected` is 0.

    Attributes:
        reference: log-probabilities of the reference, float32 [pairs, 2] (chosen, rejected); zeros until they are known.
    """

    def __init__(self, ws: Workspace, vlm: Vlm, pairs: list[Pair]) -> None:
        self.ws, self.vlm, self.pairs = ws, vlm, pairs
        self.reference = torch.zeros(len(pairs), 2)

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        numbers = [item["row"] for item in items]
        rows = [self.pairs[k] for k in numbers]
        encoded = self.vlm.encode([self._prompt(pair) for pair in rows])
        inputs = self.vlm.batch(encoded * 2, [pair.chosen for pair in rows] + [pair.rejected or pair.chosen for pair in rows])
        return {
            "inputs": inputs,
            "reference": self.reference[numbers],
            "weight": torch.tensor([pair.weight for pair in rows]),
            "has_rejected": torch.tensor([float(pair.rejected is not None) for pair in rows]),
        }

    def _prompt(self, pair: Pair) -> Prompt:
        listing = self.ws.listings[pair.listing]
        return Prompt(self.ws.question(listing, pair.attribute), prompts.shown(listing, pair.view))


@torch.no_grad()
def reference_logprobs(vlm: Vlm, collate: PairCollator, stage: Stage, batch_size: int) -> torch.Tensor:
    """Log-probability of each pair's chains under the model as it was loaded, float32 [pairs, 2]; kept in the stage's folder."""
    path = stage.folder / _REFERENCE
    if path.exists():
        return load_file(path)["logprobs"]
    vlm.model.eval()
    parts = []
    with progress("reference log-probabilities", len(collate.pairs), "pairs") as bar:
        for start in range(0, len(collate.pairs), batch_size):
            batch = collate([{"row": k} for k in range(start, min(start + batch_size, len(collate.pairs)))])
            parts.append(completion_logprobs(vlm.model, batch["inputs"]).sum(1).view(2, -1).T.cpu())
            bar.advance(len(parts[-1]))
    result = torch.cat(parts)
    temporary = path.with_suffix(".partial")
    save_file({"logprobs": result.contiguous()}, temporary)
    temporary.rename(path)
    stage.keep(_REFERENCE)
    return result


class WeightedDPOTrainer(DPOTrainer):
    """TRL's DPO with a weight per pair, anchors, and reference log-probabilities that come with the batch."""

    def __init__(self, nll: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        if "ref" in self.model.peft_config:
            self.model.delete_adapter("ref")  # TRL's frozen copy of the adapter: its log-probabilities come with the batch
        self.precompute_ref_logps = True
        self.model_accepts_loss_kwargs = False
        self.nll = nll

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None) -> torch.Tensor:
        """mean of weight * (-log sigmoid(beta * margin)) over pairs + nll * weight * (mean token NLL of the chosen) over all rows."""
        mask = inputs["inputs"]["completion_mask"]
        logps = completion_logprobs(model, inputs["inputs"]).sum(1)
        chosen, rejected = logps.chunk(2)
        weight, paired, reference = (inputs[name].to(logps.device) for name in ("weight", "has_rejected", "reference"))
        gain, loss_of_rejected = chosen - reference[:, 0], rejected - reference[:, 1]
        preference = -F.logsigmoid(self.beta * (gain - loss_of_rejected)) * weight * paired
        likelihood = -chosen / mask.chunk(2)[0].sum(1) * weight
        self._record(chosen, rejected, gain, loss_of_rejected, paired.bool(), preference, likelihood)
        return preference.mean() + self.nll * likelihood.mean()

    @torch.no_grad()
    def _record(self, chosen: Any, rejected: Any, gain: Any, loss_of_rejected: Any, paired: Any, preference: Any, likelihood: Any) -> None:
        values = {"nll": likelihood.mean(), "logps/chosen": chosen.mean(), "logps/chosen_change": gain.mean()}
        if paired.any():
            values |= {
                "preference_loss": preference[paired].mean(),
                "logps/rejected": rejected[paired].mean(),
                "logps/rejected_change": loss_of_rejected[paired].mean(),
                "rewards/accuracies": (gain > loss_of_rejected)[paired].float().mean(),
                "rewards/margins": self.beta * (gain - loss_of_rejected)[paired].mean(),
            }
        for name, value in values.items():
            self._metrics["train"][name].append(value.item())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds an alarm when the chosen chains lose likelihood (displacement): raise `dpo.nll` or lower the learning rate then."""
        changes = self._metrics["train"].get("logps/chosen_change", [])
        if changes:
            fallen = sum(changes) / len(changes) < -1.0
            logs = logs | {"alarm/chosen_logps_fell": float(fallen)}
            if fallen:
                log.warning("the chosen chains' log-probability fell by more than 1 nat: raise dpo.nll or lower dpo.learning_rate")
        super().log(logs, start_time)
