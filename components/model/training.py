"""Runs a training: checkpoints that survive a kill, the metrics file, and the adapter at the end."""

import json
import logging
import math
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, TaskProgressColumn, TimeRemainingColumn
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from attrloop.components.console import progress_bar, words
from attrloop.components.documents import Malformed, parse_json, text_of
from attrloop.components.errors import AttrloopError
from attrloop.components.model.processes import STOPPED
from attrloop.components.model.trl_trainers import AdapterTrainer
from attrloop.components.run import layout
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.reporting import advance, figure
from attrloop.components.tracking.requirements import write_requirements

log = logging.getLogger(__name__)
_WINDOW = "window"  # names the file of what was measured since the last line of the metrics file


class Metrics(TrainerCallback):
    """Appends what the trainer logs to `metrics.jsonl`, in place of lines after a resumed step, and shows progress."""

    def __init__(self, path: Path, title: str) -> None:
        self.path, self.title = path, title

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Drops lines of steps after the checkpoint, and starts the bar."""
        rows = _rows(self.path) if self.path.exists() else []
        self.path.write_text("".join(json.dumps(row) + "\n" for row in rows if row["step"] <= state.global_step))
        self.bar = progress_bar(words("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self.bar.start()
        self.task = self.bar.add_task(self.title, total=state.max_steps, completed=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Moves the bar and the step's event."""
        self.bar.update(self.task, completed=state.global_step)
        advance("training", state.global_step, state.max_steps, "steps")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Appends a line; the trainer's own summary of a run is left out, because its timings differ every time."""
        if not logs or "loss" not in logs:
            return
        figure("loss", round(float(logs["loss"]), 4))
        row = {"step": state.global_step, **{name: float(value) for name, value in logs.items()}}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stops the bar."""
        self.bar.stop()


class Checkpoints(TrainerCallback):
    """Puts every checkpoint into the store as soon as it is complete, with what was logged until then.

    On SIGTERM, which a pod gets before it is pre-empted, training saves a checkpoint after the present step and stops.

    Attributes:
        stopped: whether SIGTERM came.
    """

    def __init__(self, artifact: Artifact, trainer: AdapterTrainer) -> None:
        self.artifact, self.trainer, self.stopped = artifact, trainer, False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Listens for SIGTERM, and takes up the figures of the checkpoint that training resumes from."""
        self._former = (
            signal.signal(signal.SIGTERM, self._ask) if threading.current_thread() is threading.main_thread() else None
        )
        file = self._window(args, state)
        if file.exists():
            self.trainer.restore(json.loads(file.read_text()))

    def _ask(self, number: int, frame: Any) -> None:
        self.stopped = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ends training if SIGTERM came to any of the processes."""
        accelerator = self.trainer.accelerator
        if accelerator.num_processes > 1:  # all stop after the same step, or those that go on would wait for ever
            self.stopped = bool(accelerator.reduce(torch.tensor(float(self.stopped), device=accelerator.device)).item())
        if self.stopped:
            control.should_save = control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Completes a checkpoint with the window of every process, and keeps it."""
        file = self._window(args, state)
        temporary = file.with_suffix(".partial")
        temporary.write_text(json.dumps(self.trainer.window()))
        temporary.rename(file)
        self.trainer.accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            self._keep(state.global_step)

    def _keep(self, step: int) -> None:
        artifact = self.artifact
        artifact.keep(layout.TRAINING_CURVE)
        artifact.keep(f"{layout.CHECKPOINTS}/checkpoint-{step}")
        folder = f"{artifact.path}/{layout.CHECKPOINTS}"
        here = {path.name for path in (artifact.folder / layout.CHECKPOINTS).iterdir()}  # the trainer removes old ones
        for name in {path.removeprefix(f"{folder}/").split("/")[0] for path in artifact.store.list(folder)} - here:
            artifact.store.remove(f"{folder}/{name}")

    def _window(self, args: Any, state: Any) -> Path:
        checkpoint = self.artifact.folder / layout.CHECKPOINTS / f"checkpoint-{state.global_step}"
        return checkpoint / f"{_WINDOW}-{args.process_index}.json"

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stops listening for SIGTERM."""
        if self._former is not None:
            signal.signal(signal.SIGTERM, self._former)


def run_trainer(trainer: AdapterTrainer, artifact: Artifact) -> None:
    """Trains from the last complete checkpoint, if there is one, and saves the adapter (safetensors) to `adapter/`.

    Raises:
        AttrloopError: out of memory, a full disk, or a loss that is not a number; says what to change.
        SystemExit: with `STOPPED`, when SIGTERM came; the checkpoint is in the store.
    """
    folder = artifact.folder / layout.CHECKPOINTS
    folder.mkdir(exist_ok=True)
    checkpoints = Checkpoints(artifact, trainer)
    trainer.add_callback(checkpoints)
    if trainer.is_world_process_zero():
        trainer.add_callback(Metrics(artifact.folder / layout.TRAINING_CURVE, artifact.path.replace("/", " ")))
    with trainer.accelerator.main_process_first():
        checkpoint = _last_complete(artifact)
    if checkpoint:
        log.warning("going on from %s", Path(checkpoint).name)
    _train(trainer, artifact.path, checkpoint)
    if checkpoints.stopped and trainer.state.global_step < trainer.state.max_steps:
        log.warning("stopped after step %d, as asked; the same call goes on from there", trainer.state.global_step)
        raise SystemExit(STOPPED)
    if trainer.is_world_process_zero():
        model: Any = trainer.model
        model.save_pretrained(artifact.folder / layout.ADAPTER, selected_adapters=["default"], safe_serialization=True)
        write_requirements(artifact.folder / layout.ADAPTER)


def _train(trainer: AdapterTrainer, path: str, checkpoint: str | None) -> None:
    try:
        result = trainer.train(resume_from_checkpoint=checkpoint)
    except torch.OutOfMemoryError as error:
        remedy = "Lower batch_size or model.max_pixels, or set gradient_checkpointing"
        raise AttrloopError(f"{path}: out of device memory. {remedy}.") from error
    except OSError as error:
        remedy = "Free disk space and start the same command again"
        raise AttrloopError(f"{path}: a checkpoint cannot be written ({error}). {remedy}.") from error
    model: Any = trainer.model
    trained = (weight for weight in model.parameters() if weight.requires_grad)
    if not math.isfinite(result.training_loss) or not all(weight.isfinite().all() for weight in trained):
        raise AttrloopError(f"{path}: the loss is not a number. Lower learning_rate.")


def _rows(curve: Path) -> list[dict[str, Any]]:
    """The lines of a training curve. A kill may have cut off the last one."""
    rows = []
    for number, line in enumerate(curve.read_bytes().splitlines(), 1):
        try:
            row = parse_json(text_of(line))
            rows += [{**row, "step": int(row["step"])}]
        except (Malformed, TypeError, KeyError, ValueError):
            log.warning("%s:%d: this line is damaged and is left out", curve, number)
    return rows


def _last_complete(artifact: Artifact) -> str | None:
    """The newest checkpoint that is as `Checkpoints` kept it. Others are removed."""
    folder = artifact.folder / layout.CHECKPOINTS
    while (last := get_last_checkpoint(str(folder))) is not None:  # type: ignore[no-untyped-call]
        if artifact.kept(f"{layout.CHECKPOINTS}/{Path(last).name}"):
            return last
        shutil.rmtree(last)
    return None
