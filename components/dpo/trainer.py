"""DPO on a loaded workspace: batches of pairs, the reference's log-probabilities, and the loss on them."""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from attrloop.components.catalogue import prompts
from attrloop.components.catalogue.prompts import Prompt
from attrloop.components.catalogue.records import Pair
from attrloop.components.dpo.loss import LOSSES, Changes
from attrloop.components.model.logprobs import completion_logprobs, continuation_logprobs
from attrloop.components.model.processes import Peers
from attrloop.components.model.training import run_trainer
from attrloop.components.model.trl_trainers import Measured, Reduce, preference_trainer
from attrloop.components.model.vlm import Vlm
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.config import DpoConfig
from attrloop.components.run.progress import progress
from attrloop.components.run.workspace import Workspace

log = logging.getLogger(__name__)
_REFERENCE = "reference.safetensors"
_FALLEN = -1.0  # nats that chosen chains may lose on average before an alarm


def fit(ws: Workspace, artifact: Artifact, adapter: str, pairs: list[Pair]) -> None:
    """Trains `adapter` on pairs and writes the result to the artifact's folder.

    The reference is `adapter` as it was. Its log-probabilities are computed once before the first step and kept, so
    that a resumed run compares with the same reference.

    Raises:
        AttrloopError: see `run_trainer`.
    """
    vlm = Vlm.open(ws, adapter, trainable=True)
    collate = PairCollator(ws, vlm, pairs)
    collate.reference = reference_logprobs(vlm, collate, artifact, ws.config.dpo.batch_size)
    trainer = preference_trainer(
        vlm,
        artifact,
        ws.config.dpo,
        seed=ws.config.seed,
        rows=len(pairs),
        collate=collate,
        objective=PreferenceLoss(ws.config.dpo),
    )
    run_trainer(trainer, artifact)


class PairCollator:
    """Makes batches of pairs.

    Each distinct prompt (listing, attribute, and the image that the rejected chain saw) is computed once, unless
    gradients are checkpointed. The completions are the chosen chains of all rows, then the rejected chains of the rows
    that have one; an anchor has none.

    Attributes:
        reference: log-probabilities of the reference, float32 [pairs, 2] (chosen, rejected); zeros until known.
    """

    def __init__(self, ws: Workspace, vlm: Vlm, pairs: list[Pair]) -> None:
        self.ws, self.vlm, self.pairs = ws, vlm, pairs
        self.reference = torch.zeros(len(pairs), 2)

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch of `[{"row": 3}, {"row": 0}, ...]`, numbers of pairs."""
        numbers = [item["row"] for item in items]
        rows = [self.pairs[k] for k in numbers]
        prompts_of_rows = [self._prompt(pair) for pair in rows]
        distinct = list(dict.fromkeys(prompts_of_rows))
        owners = torch.tensor([distinct.index(prompt) for prompt in prompts_of_rows])
        paired = torch.tensor([pair.rejected is not None for pair in rows])
        chains = [pair.chosen for pair in rows] + [pair.rejected for pair in rows if pair.rejected is not None]
        owners = torch.cat([owners, owners[paired]])
        checkpointed = self.ws.config.dpo.gradient_checkpointing
        batch = (self._whole if checkpointed else self._shared)(distinct, owners, chains)
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
        """Every chain with its own prompt: layers that are checkpointed keep no cache that chains could share."""
        encoded = self.vlm.encode(distinct)
        rows = self.vlm.batch([encoded[k] for k in owners.tolist()], chains)
        return {"rows": rows, "mask": rows["completion_mask"]}

    def _prompt(self, pair: Pair) -> Prompt:
        listing = self.ws.listings[pair.listing]
        return Prompt(self.ws.question(listing, pair.attribute), prompts.shown(listing, pair.view))


@torch.no_grad()
def reference_logprobs(vlm: Vlm, collate: PairCollator, artifact: Artifact, batch_size: int) -> torch.Tensor:
    """Log-probabilities of every pair's chains under the model as it was loaded, float32 [pairs, 2].

    They are kept in the artifact's folder, and read from there once they are known.
    """
    path = artifact.folder / _REFERENCE
    if artifact.kept(_REFERENCE):
        return load_file(path)["logprobs"]
    peers, result = Peers(vlm.base.device), torch.zeros(len(collate.pairs), 2)
    mine = peers.rows(len(collate.pairs))
    vlm.model.eval()
    with progress("reference log-probabilities", len(mine), "pairs") as bar:
        for start in range(0, len(mine), batch_size):
            rows = torch.tensor(mine[start : start + batch_size])
            batch = collate([{"row": k} for k in rows.tolist()])
            chosen, rejected = chain_logprobs(vlm.model, batch)
            result[rows, 0], result[rows[batch["paired"].cpu()], 1] = chosen.cpu(), rejected.cpu()
            bar.advance(len(rows))
    result = peers.sum(result)
    if peers.main:
        temporary = path.with_suffix(".partial")
        save_file({"logprobs": result.contiguous()}, temporary)
        temporary.rename(path)
        artifact.keep(_REFERENCE)
    return result


def chain_logprobs(model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed log-probabilities of a batch's chosen chains [rows] and of its rejected chains [rows that have one]."""
    if "rows" in batch:
        tokens = completion_logprobs(model, batch["rows"])
    else:
        tokens = continuation_logprobs(model, batch["prompts"], batch["completions"], batch["mask"], batch["owners"])
    sums = tokens.sum(1)
    return sums[: len(batch["weight"])], sums[len(batch["weight"]) :]


@dataclass(frozen=True)
class PreferenceLoss:
    """The loss that `dpo.loss` names on pairs, and the NLL of the chosen chain on pairs and anchors, both weighted.

    The mean over a batch's rows of weight * (loss of the pair, 0 for an anchor) + `dpo.nll` * weight * (mean NLL of the
    chosen chain's tokens). The NLL term is that of Iterative RPO (arXiv 2404.19733).
    """

    config: DpoConfig

    def measure(self, model: Any, batch: dict[str, Any], reduce: Reduce) -> Measured:
        """See `trl_trainers.Objective`."""
        chosen, rejected = chain_logprobs(model, batch)
        weight, paired, reference = batch["weight"], batch["paired"], batch["reference"]
        tokens = batch["mask"].sum(1)
        gain, rejected_gain = chosen - reference[:, 0], rejected - reference[paired, 1]
        changes = Changes(gain[paired], rejected_gain, tokens[: len(weight)][paired], tokens[len(weight) :])
        preference = LOSSES[self.config.loss](changes, self.config) * weight[paired]
        likelihood = -chosen / tokens[: len(weight)] * weight
        figures = {
            "nll": likelihood,
            "logps/chosen": chosen,
            "logps/chosen_change": gain,
            "preference_loss": preference,
            "logps/rejected": rejected,
            "logps/rejected_change": rejected_gain,
            "rewards/accuracies": (changes.margin > 0).float(),
            "rewards/margins": self.config.beta * changes.margin,
        }
        return Measured(preference.sum() / len(weight) + self.config.nll * likelihood.mean(), figures)

    def alarms(self, means: dict[str, float]) -> dict[str, float]:
        """Warns when the chosen chains lose likelihood ('displacement')."""
        if "logps/chosen_change" not in means:
            return {}
        fallen = means["logps/chosen_change"] < _FALLEN
        if fallen:
            log.warning("the chosen chains lost more than 1 nat: raise dpo.nll or lower dpo.learning_rate")
        return {"alarm/chosen_logps_fell": float(fallen)}
