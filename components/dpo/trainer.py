"""DPO on a loaded workspace: batches of pairs, reference log-probabilities, and TRL's trainer with weights, anchors and the NLL term."""

import logging
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from trl import DPOConfig, DPOTrainer

from attrloop.components.catalogue import prompts
from attrloop.components.catalogue.prompts import Prompt
from attrloop.components.catalogue.records import Pair
from attrloop.components.model.logprobs import completion_logprobs, continuation_logprobs
from attrloop.components.model.training import rows_dataset, run_trainer, trainer_arguments
from attrloop.components.model.vlm import Vlm
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.progress import progress
from attrloop.components.run.workspace import Workspace

log = logging.getLogger(__name__)
_REFERENCE = "reference.safetensors"


def fit(ws: Workspace, stage: Artifact, adapter: str, pairs: list[Pair]) -> None:
    """Trains `adapter` on pairs and writes what it becomes to the stage's folder.

    The reference log-probabilities are those of `adapter`, computed once before the first step and kept, so that a resumed run compares
    with the same reference.

    Raises:
        AttrloopError: see `run_trainer`.
    """
    vlm = Vlm.open(ws, adapter, trainable=True)
    collate = PairCollator(ws, vlm, pairs)
    collate.reference = reference_logprobs(vlm, collate, stage, ws.config.dpo.batch_size)
    trainer = WeightedDPOTrainer(
        model=vlm.model,
        args=trainer_arguments(DPOConfig, ws.config.dpo, stage, vlm, ws.config.seed, beta=ws.config.dpo.beta),
        train_dataset=rows_dataset(len(pairs)),
        processing_class=vlm.processor,
        data_collator=collate,
        nll=ws.config.dpo.nll,
    )
    run_trainer(trainer, stage)


class PairCollator:
    """Makes batches of pairs. Each distinct prompt (listing, attribute and the image that the rejected chain saw) is computed once, unless
    gradients are checkpointed.

    The completions are the chosen chains of all rows, then the rejected chains of those rows that have one (an anchor has none).

    Attributes:
        reference: log-probabilities of the reference, float32 [pairs, 2] (chosen, rejected); zeros until they are known.
    """

    def __init__(self, ws: Workspace, vlm: Vlm, pairs: list[Pair]) -> None:
        self.ws, self.vlm, self.pairs = ws, vlm, pairs
        self.reference = torch.zeros(len(pairs), 2)

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        numbers = [item["row"] for item in items]
        rows = [self.pairs[k] for k in numbers]
        prompts_of_rows = [self._prompt(pair) for pair in rows]
        distinct = list(dict.fromkeys(prompts_of_rows))
        owners = torch.tensor([distinct.index(prompt) for prompt in prompts_of_rows])
        paired = torch.tensor([pair.rejected is not None for pair in rows])
        chains = [pair.chosen for pair in rows] + [pair.rejected for pair in rows if pair.rejected is not None]
        owners = torch.cat([owners, owners[paired]])
        batch = (
            self._whole(distinct, owners, chains)
            if self.ws.config.dpo.gradient_checkpointing
            else self._shared(distinct, owners, chains)
        )
        device = batch["mask"].device
        weight = torch.tensor([pair.weight for pair in rows], device=device)
        return batch | {"paired": paired.to(device), "reference": self.reference[numbers].to(device), "weight": weight}

    def _shared(self, distinct: list[Prompt], owners: torch.Tensor, chains: list[str]) -> dict[str, Any]:
        completions, mask = self.vlm.completions(chains)
        return {
            "prompts": self.vlm.batch(self.vlm.encode(distinct)),
            "completions": completions,
            "mask": mask,
            "owners": owners.to(mask.device),
        }

    def _whole(self, distinct: list[Prompt], owners: torch.Tensor, chains: list[str]) -> dict[str, Any]:
        """Every chain with a prompt of its own: layers that are checkpointed keep no cache that chains could share."""
        encoded = self.vlm.encode(distinct)
        rows = self.vlm.batch([encoded[k] for k in owners.tolist()], chains)
        return {"rows": rows, "mask": rows["completion_mask"]}

    def _prompt(self, pair: Pair) -> Prompt:
        listing = self.ws.listings[pair.listing]
        return Prompt(self.ws.question(listing, pair.attribute), prompts.shown(listing, pair.view))


@torch.no_grad()
def reference_logprobs(vlm: Vlm, collate: PairCollator, stage: Artifact, batch_size: int) -> torch.Tensor:
    """Log-probability of each pair's chains under the model as it was loaded, float32 [pairs, 2]; kept in the stage's folder."""
    path = stage.folder / _REFERENCE
    if path.exists():
        return load_file(path)["logprobs"]
    process = PartialState(cpu=vlm.base.device.type == "cpu")
    share = list(range(len(collate.pairs)))[process.process_index :: process.num_processes]
    result = torch.zeros(len(collate.pairs), 2)
    vlm.model.eval()
    with progress("reference log-probabilities", len(share), "pairs") as bar:
        for start in range(0, len(share), batch_size):
            rows = torch.tensor(share[start : start + batch_size])
            batch = collate([{"row": k} for k in rows.tolist()])
            chosen, rejected = chain_logprobs(vlm.model, batch)
            result[rows, 0], result[rows[batch["paired"].cpu()], 1] = chosen.cpu(), rejected.cpu()
            bar.advance(len(rows))
    result = reduce(result.to(vlm.base.device), "sum").cpu()
    if process.is_main_process:
        temporary = path.with_suffix(".partial")
        save_file({"logprobs": result.contiguous()}, temporary)
        temporary.rename(path)
        stage.keep(_REFERENCE)
    return result


def chain_logprobs(model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed log-probabilities of a batch's chosen chains [rows] and of its rejected chains [rows that have one]."""
    if "rows" in batch:
        sums = completion_logprobs(model, batch["rows"]).sum(1)
    else:
        sums = continuation_logprobs(model, batch["prompts"], batch["completions"], batch["mask"], batch["owners"]).sum(
            1
        )
    return sums[: len(batch["weight"])], sums[len(batch["weight"]) :]


class WeightedDPOTrainer(DPOTrainer):
    """TRL's DPO with a weight per pair, anchors, and reference log-probabilities that come with the batch."""

    def __init__(self, nll: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        model: Any = self.model
        if "ref" in model.peft_config:
            model.delete_adapter("ref")  # TRL's frozen copy of the adapter: its log-probabilities come with the batch
        self.precompute_ref_logps = True
        self.model_accepts_loss_kwargs = False
        self.nll = nll

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Mean over rows of weight * (-log sigmoid(beta * margin)), where a row is a pair, + nll * weight * (mean token NLL of the chosen) over all rows."""
        chosen, rejected = chain_logprobs(model, inputs)
        weight, paired, reference = inputs["weight"], inputs["paired"], inputs["reference"]
        gain, rejected_gain = chosen - reference[:, 0], rejected - reference[paired, 1]
        margin = gain[paired] - rejected_gain
        preference = -F.logsigmoid(self.beta * margin) * weight[paired]
        likelihood = -chosen / inputs["mask"][: len(weight)].sum(1) * weight
        values = {
            "nll": likelihood, "logps/chosen": chosen, "logps/chosen_change": gain, "preference_loss": preference, "logps/rejected": rejected,
            "logps/rejected_change": rejected_gain, "rewards/accuracies": (margin > 0).float(), "rewards/margins": self.beta * margin,
        }  # fmt: skip
        sums = torch.stack(
            [
                torch.stack((value.detach().float().sum(), value.new_tensor(float(len(value)))))
                for value in values.values()
            ]
        )
        for name, (total, count) in zip(values, self.accelerator.reduce(sums, "sum").tolist(), strict=True):
            if count:
                self._metrics["train"][name].append(total / count)
        return preference.sum() / len(weight) + self.nll * likelihood.mean()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds an alarm when the chosen chains lose likelihood (displacement): raise `dpo.nll` or lower the learning rate then."""
        changes = self._metrics["train"].get("logps/chosen_change", [])
        if changes:
            fallen = sum(changes) / len(changes) < -1.0
            logs = logs | {"alarm/chosen_logps_fell": float(fallen)}
            if fallen:
                log.warning(
                    "the chosen chains' log-probability fell by more than 1 nat: raise dpo.nll or lower dpo.learning_rate"
                )
        super().log(logs, start_time)
