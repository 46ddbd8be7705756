"""TRL's trainers with our batches and our losses. Nothing else knows what is private or peculiar in TRL.

tests/components/model/test_trl_contract.py checks every such assumption and says which one broke.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from datasets import Dataset
from transformers import Trainer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from attrloop.components.model.vlm import Vlm
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.config import TrainConfig

Arguments = TypeVar("Arguments", SFTConfig, DPOConfig)
Batch = dict[str, Any]
Collate = Callable[[list[dict[str, Any]]], Batch]
Reduce = Callable[[torch.Tensor, str], torch.Tensor]


@dataclass(frozen=True)
class Measured:
    """What an objective makes of a batch.

    Attributes:
        loss: a scalar with gradients.
        figures: values of this process's rows by name. The metrics file gets their mean over all processes and steps
            since its last line.
    """

    loss: torch.Tensor
    figures: dict[str, torch.Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """What a training minimises."""

    def measure(self, model: Any, batch: Batch, reduce: Reduce) -> Measured:
        """The loss and the figures of a batch.

        Args:
            model: the model in training.
            batch: what the collator made.
            reduce: the "sum" or "mean" of a tensor over all processes.
        """

    def alarms(self, means: dict[str, float]) -> dict[str, float]:
        """Further figures for the metrics file.

        Args:
            means: of the figures measured since the last line of the metrics file.
        """


class AdapterTrainer(Trainer):
    """What both trainers add to TRL's: a loss of ours, figures averaged over processes, and a window that can be saved.

    The window is what was measured since the last line of the metrics file; a checkpoint without it would leave a seam
    in the curve of a resumed training.
    """

    objective: Objective
    _metrics: Any  # values by name, of "train" and of "eval"
    _tr_loss: torch.Tensor
    _globalstep_last_logged: int

    def __init__(self, objective: Objective, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.objective = objective
        self.model_accepts_loss_kwargs = False  # the loss is a mean: the trainer averages accumulated steps

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The objective's loss; its figures go where TRL averages them for the log."""
        measured = self.objective.measure(model, inputs, self.accelerator.reduce)
        if measured.figures:
            rows = measured.figures.values()
            counted = [torch.stack((row.detach().float().sum(), row.new_tensor(float(len(row))))) for row in rows]
            sums = self.accelerator.reduce(torch.stack(counted), "sum").tolist()
            for name, (total, count) in zip(measured.figures, sums, strict=True):
                if count:
                    self._metrics["train"][name].append(total / count)
        return measured.loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the objective's alarms to what TRL logs."""
        means = {name: sum(values) / len(values) for name, values in self._metrics["train"].items()}
        super().log(logs | self.objective.alarms(means), start_time)

    def window(self) -> dict[str, Any]:
        """What was measured since the last line of the metrics file, in JSON types."""
        metrics = {name: list(values) for name, values in self._metrics["train"].items()}
        return {"loss": self._tr_loss.item(), "since": self._globalstep_last_logged, "metrics": metrics}

    def restore(self, window: dict[str, Any]) -> None:
        """Goes on measuring from a `window`; call it when training begins."""
        self._tr_loss += window["loss"]
        self._globalstep_last_logged = window["since"]
        for name, values in window["metrics"].items():
            self._metrics["train"][name].extend(values)


class SupervisedTrainer(AdapterTrainer, SFTTrainer):
    """TRL's SFT."""


class PreferenceTrainer(AdapterTrainer, DPOTrainer):
    """TRL's DPO, without its reference model: the reference's log-probabilities come with the batch."""

    def __init__(self, objective: Objective, **arguments: Any) -> None:
        super().__init__(objective, **arguments)
        model: Any = self.model
        if "ref" in model.peft_config:
            model.delete_adapter("ref")  # TRL's frozen copy of the adapter
        self.precompute_ref_logps = True


def supervised_trainer(
    vlm: Vlm, artifact: Artifact, config: TrainConfig, *, seed: int, rows: int, collate: Collate, objective: Objective
) -> SupervisedTrainer:
    """A trainer of a model's adapter by SFT.

    Args:
        vlm: the model, with the adapter to train.
        artifact: the folder in which checkpoints are kept.
        config: rates and sizes.
        seed: the seed of the order of rows, and of whatever else is random in training.
        rows: how many rows there are to train on.
        collate: makes a batch of `[{"row": 3}, {"row": 0}, ...]`.
        objective: what is minimised.
    """
    arguments = trainer_arguments(SFTConfig, config, artifact, vlm, seed)
    return SupervisedTrainer(objective, args=arguments, **_given(vlm, rows, collate))


def preference_trainer(
    vlm: Vlm, artifact: Artifact, config: TrainConfig, *, seed: int, rows: int, collate: Collate, objective: Objective
) -> PreferenceTrainer:
    """A trainer of a model's adapter by DPO; the arguments are those of `supervised_trainer`."""
    arguments = trainer_arguments(DPOConfig, config, artifact, vlm, seed)
    return PreferenceTrainer(objective, args=arguments, **_given(vlm, rows, collate))


def _given(vlm: Vlm, rows: int, collate: Collate) -> dict[str, Any]:
    dataset = rows_dataset(rows)
    return {"model": vlm.model, "train_dataset": dataset, "processing_class": vlm.processor, "data_collator": collate}


def rows_dataset(count: int) -> Dataset:
    """A dataset of row numbers, which the collator looks up. TRL leaves a dataset with an `images` column as it is."""
    return Dataset.from_dict({"row": list(range(count)), "images": [None] * count})


def trainer_arguments(kind: type[Arguments], config: TrainConfig, artifact: Artifact, vlm: Vlm, seed: int) -> Arguments:
    """The arguments that SFT and DPO share, each explained where it is not the obvious one.

    `config.batch_size` counts rows over all processes, so their number decides how long a training takes, not what it
    learns. One exception: several processes fill the last batch of an epoch with rows of the first.
    """
    arguments = kind(
        output_dir=str(artifact.folder / layout.CHECKPOINTS),
        seed=seed,
        data_seed=seed,
        learning_rate=config.learning_rate,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        warmup_steps=config.warmup,  # below 1: a fraction of all steps
        max_grad_norm=config.max_grad_norm,
        lr_scheduler_type="linear",
        weight_decay=0.0,
        save_strategy="steps",
        save_steps=config.checkpoint_steps,
        save_total_limit=2,
        logging_steps=5,
        logging_nan_inf_filter=False,  # a loss that is not a number must not be averaged away
        report_to=[],
        disable_tqdm=True,  # our own bar shows rate and time left
        gradient_checkpointing=config.gradient_checkpointing,
        remove_unused_columns=False,  # the collator makes the model's inputs from our own columns
        bf16=vlm.base.dtype == torch.bfloat16,
        use_cpu=vlm.base.device.type == "cpu",
        dataloader_pin_memory=False,  # the collator makes batches on the device; only host memory can be pinned
        accelerator_config={"split_batches": True},  # each process takes its part of every batch
        ddp_broadcast_buffers=False,  # they are constant; writing them between forward passes breaks the backward pass
        ddp_find_unused_parameters=False,
        max_length=None,  # truncation would cut image tokens; max_pixels bounds the length instead
    )
    arguments._n_gpu = 1  # per process, however many it sees: more GPUs are used by more processes
    return arguments
