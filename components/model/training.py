"""What SFT and DPO share: TRL trainer arguments, checkpoints and resuming, the metrics file, saving the adapter."""

import json
import logging
import math
import shutil
import signal
import threading
from pathlib import Path
from typing import Any, TypeVar

import torch
from datasets import Dataset
from rich.progress import Progress
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint
from trl import DPOConfig, SFTConfig

from attrloop.components.errors import AttrloopError
from attrloop.components.model.processes import STOPPED
from attrloop.components.model.vlm import Vlm
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.config import TrainConfig
from attrloop.components.run.reporting import advance, figure
from attrloop.components.tracking.requirements import write_requirements

log = logging.getLogger(__name__)
Arguments = TypeVar("Arguments", SFTConfig, DPOConfig)
_WINDOW = "window"  # of the curve: what was measured since its last line


def trainer_arguments(
    kind: type[Arguments], config: TrainConfig, stage: Artifact, vlm: Vlm, seed: int, **more: Any
) -> Arguments:
    """SFTConfig or DPOConfig: arguments that are constant across them, explained where they are not the obvious ones, and `more`.

    `config.batch_size` counts rows over all processes, so that their number decides the time a training takes and not its outcome; but where the last batch
    of an epoch is not full, several processes fill it with rows of the first.
    """
    arguments = kind(
        output_dir=str(stage.folder / "checkpoints"),
        seed=seed,
        data_seed=seed,
        learning_rate=config.learning_rate,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        warmup_steps=config.warmup,  # below 1: a share of all steps
        max_grad_norm=config.max_grad_norm,
        lr_scheduler_type="linear",
        weight_decay=0.0,
        save_strategy="steps",
        save_steps=config.checkpoint_steps,
        save_total_limit=2,
        logging_steps=5,
        logging_nan_inf_filter=False,  # a loss that is no number must not be averaged away
        report_to=[],
        disable_tqdm=True,  # our own bar shows rate and time left
        gradient_checkpointing=config.gradient_checkpointing,
        remove_unused_columns=False,  # the collator makes the model's inputs from our own columns
        bf16=vlm.base.dtype == torch.bfloat16,
        use_cpu=vlm.base.device.type == "cpu",
        dataloader_pin_memory=False,  # the collator makes batches on the device, and only what lies in the machine's memory can be pinned
        accelerator_config={"split_batches": True},  # of every batch each process takes its share
        ddp_broadcast_buffers=False,  # they are constant; writing them between two forward passes would break the backward pass
        ddp_find_unused_parameters=False,
        max_length=None,  # truncation would cut image tokens; max_pixels bounds the length instead
        **more,
    )
    arguments._n_gpu = 1  # of one process, however many it sees: more are used by more processes
    return arguments


class Metrics(TrainerCallback):
    """Appends what the trainer logs to `metrics.jsonl` (lines after a resumed step are replaced) and shows progress."""

    def __init__(self, path: Path, title: str) -> None:
        self.path, self.title = path, title

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        rows = [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []
        self.path.write_text("".join(json.dumps(row) + "\n" for row in rows if row["step"] <= state.global_step))
        self.bar = Progress()
        self.bar.start()
        self.task = self.bar.add_task(self.title, total=state.max_steps, completed=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update(self.task, completed=state.global_step)
        advance("training", state.global_step, state.max_steps, "steps")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:  # the trainer's own summary of a run: timings, which differ every time
            return
        figure("loss", round(float(logs["loss"]), 4))
        with self.path.open("a") as file:
            file.write(
                json.dumps({"step": state.global_step, **{name: float(value) for name, value in logs.items()}}) + "\n"
            )

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.stop()


class Checkpoints(TrainerCallback):
    """Makes every checkpoint durable in the store as soon as it is complete, and what was logged until then with it.

    On SIGTERM, which is what a pod gets before a pre-emption, a checkpoint is made after the present step and training stops.

    Attributes:
        stopped: whether it was asked to.
    """

    def __init__(self, stage: Artifact, trainer: Any) -> None:
        self.stage, self.trainer, self.stopped = stage, trainer, False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._former = (
            signal.signal(signal.SIGTERM, self._ask) if threading.current_thread() is threading.main_thread() else None
        )
        file = self._window(args, state)
        if file.exists():  # figures of the steps since the last line of the metrics file
            kept = json.loads(file.read_text())
            self.trainer._tr_loss += kept["loss"]
            self.trainer._globalstep_last_logged = kept["since"]
            for name, values in kept["metrics"].items():
                self.trainer._metrics["train"][name].extend(values)

    def _ask(self, number: int, frame: Any) -> None:
        self.stopped = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        accelerator = self.trainer.accelerator
        if accelerator.num_processes > 1:  # all stop after the same step, or those that go on would wait for ever
            self.stopped = bool(accelerator.reduce(torch.tensor(float(self.stopped), device=accelerator.device)).item())
        if self.stopped:
            control.should_save = control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        trainer = self.trainer
        window = {
            "loss": trainer._tr_loss.item(),
            "since": trainer._globalstep_last_logged,
            "metrics": trainer._metrics["train"],
        }
        file = self._window(args, state)
        temporary = file.with_suffix(".partial")
        temporary.write_text(json.dumps(window))
        temporary.rename(file)
        trainer.accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            self._keep(state.global_step)

    def _keep(self, step: int) -> None:
        self.stage.keep("metrics.jsonl")
        self.stage.keep(f"checkpoints/checkpoint-{step}")
        folder = f"{self.stage.path}/checkpoints"
        here = {path.name for path in (self.stage.folder / "checkpoints").iterdir()}  # the trainer removes old ones
        for name in {path.removeprefix(f"{folder}/").split("/")[0] for path in self.stage.store.list(folder)} - here:
            self.stage.store.remove(f"{folder}/{name}")

    def _window(self, args: Any, state: Any) -> Path:
        return (
            self.stage.folder
            / "checkpoints"
            / f"checkpoint-{state.global_step}"
            / f"{_WINDOW}-{args.process_index}.json"
        )

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._former is not None:
            signal.signal(signal.SIGTERM, self._former)


def run_trainer(trainer: Any, stage: Artifact) -> None:
    """Trains, going on from the last complete checkpoint if there is one, and saves the adapter (safetensors) to `adapter/`.

    Raises:
        AttrloopError: out of memory, a full disk or a loss that is no number, with what to change.
        SystemExit: with `STOPPED`, when SIGTERM came; the checkpoint is in the store.
    """
    folder = stage.folder / "checkpoints"
    folder.mkdir(exist_ok=True)
    checkpoints = Checkpoints(stage, trainer)
    trainer.add_callback(checkpoints)
    if trainer.is_world_process_zero():
        trainer.add_callback(Metrics(stage.folder / "metrics.jsonl", stage.path.replace("/", " ")))
    with trainer.accelerator.main_process_first():
        checkpoint = _last_complete(folder)
    if checkpoint:
        log.warning("going on from %s", Path(checkpoint).name)
    try:
        result = trainer.train(resume_from_checkpoint=checkpoint)
    except torch.OutOfMemoryError as error:
        raise AttrloopError(
            f"{stage.path}: out of device memory. Lower batch_size or model.max_pixels, or set gradient_checkpointing."
        ) from error
    except OSError as error:
        raise AttrloopError(
            f"{stage.path}: a checkpoint cannot be written ({error}). Free disk space and start the same command again."
        ) from error
    trained = (weight for weight in trainer.model.parameters() if weight.requires_grad)
    if not math.isfinite(result.training_loss) or not all(weight.isfinite().all() for weight in trained):
        raise AttrloopError(f"{stage.path}: the loss is not a number. Lower learning_rate.")
    if checkpoints.stopped and trainer.state.global_step < trainer.state.max_steps:
        log.warning("stopped after step %d, as asked; the same call goes on from there", trainer.state.global_step)
        raise SystemExit(STOPPED)
    if trainer.is_world_process_zero():
        trainer.model.save_pretrained(stage.folder / "adapter", selected_adapters=["default"], safe_serialization=True)
        write_requirements(stage.folder / "adapter")


def _last_complete(folder: Path) -> str | None:
    """The newest checkpoint that holds what `Checkpoints` writes last, and thus everything; others are removed."""
    while (last := get_last_checkpoint(str(folder))) is not None:  # type: ignore[no-untyped-call]
        if (Path(last) / f"{_WINDOW}-0.json").exists():
            return last
        shutil.rmtree(last)
    return None


def rows_dataset(count: int) -> Dataset:
    """A dataset of row numbers (the collator looks rows up): TRL recognises vision data by the `images` column and leaves it as it is."""
    return Dataset.from_dict({"row": list(range(count)), "images": [None] * count})
