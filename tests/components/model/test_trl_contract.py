"""What attrloop assumes of TRL and transformers beyond their documents. If a test fails, change trl_trainers.py."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from attrloop.components.catalogue.images import ImageReader
from attrloop.components.model.trl_trainers import (
    AdapterTrainer,
    Measured,
    Reduce,
    preference_trainer,
    rows_dataset,
    supervised_trainer,
    trainer_arguments,
)
from attrloop.components.model.vlm import Vlm
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.config import ModelConfig, SftConfig, TrainConfig
from attrloop.components.storage.opening import open_store

WHO = f"TRL {version('trl')} with transformers {version('transformers')}"
CONFIG = SftConfig(learning_rate=0.1, epochs=4, batch_size=2, accumulation=2, checkpoint_steps=3, warmup=0.0)
ROWS = 4
KINDS = [supervised_trainer, preference_trainer]


class Ones:
    """An objective whose loss is 1 whatever happens, and whose figure says how many rows a batch has."""

    def measure(self, model: Any, batch: dict[str, Any], reduce: Reduce) -> Measured:
        weight = next(weight for weight in model.parameters() if weight.requires_grad)
        return Measured(1.0 + 0.0 * weight.sum(), {"rows": torch.tensor([float(len(batch["rows"]))])})

    def alarms(self, means: dict[str, float]) -> dict[str, float]:
        return {"alarm/rows": means.get("rows", 0.0)}


@pytest.fixture
def vlm(base_of: Callable[[str], Path], pictures: ImageReader) -> Vlm:
    made = Vlm.load(ModelConfig(base=str(base_of("qwen2_5_vl")), lora_rank=4), pictures)
    made.add_adapter(0)
    return made


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return Artifact(open_store(tmp_path), "trained", {})


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"rows": torch.tensor([item["row"] for item in items])}


def made(kind: Any, vlm: Vlm, artifact: Artifact, config: TrainConfig = CONFIG) -> AdapterTrainer:
    trainer: AdapterTrainer = kind(vlm, artifact, config, seed=0, rows=ROWS, collate=collate, objective=Ones())
    return trainer


def stock(kind: Any, arguments: Any, vlm: Vlm, artifact: Artifact) -> Any:
    """TRL's own trainer, without what attrloop changes in it."""
    settings = trainer_arguments(arguments, CONFIG, artifact, vlm, 0)
    return kind(
        model=vlm.model,
        args=settings,
        train_dataset=rows_dataset(ROWS),
        processing_class=vlm.processor,
        data_collator=collate,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_measured_is_averaged_over_the_steps_since_the_last_line(
    kind: Any, vlm: Vlm, artifact: Artifact
) -> None:
    trainer = made(kind, vlm, artifact)
    trainer.args.logging_steps = 2
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    assert [line["step"] for line in lines] == [2, 4], f"{WHO}: a line for every `logging_steps` updates"
    for line in lines:
        assert line["loss"] == pytest.approx(1.0), f"{WHO}: model_accepts_loss_kwargs no longer keeps the loss a mean"
        assert line.get("rows") == 2.0, f"{WHO}: _metrics['train'] no longer holds lists that log() averages"
        assert line.get("alarm/rows") == 2.0, f"{WHO}: _metrics['train'] is not there when log() is called"
    assert not trainer._metrics["train"], f"{WHO}: log() no longer clears _metrics['train']"


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_is_what_was_measured_since_the_last_line(kind: Any, vlm: Vlm, artifact: Artifact) -> None:
    from transformers import TrainerCallback

    class Save(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 3:
                windows.append(trainer.window())

    class Restore(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            again.restore({"loss": 10.0, "since": -2, "metrics": {"rows": [8.0] * 4}})

    windows: list[dict[str, Any]] = []
    trainer = made(kind, vlm, artifact)
    trainer.args.logging_steps = 2
    trainer.add_callback(Save())
    trainer.train()
    (window,) = windows
    told = f"{WHO}: a checkpoint's window"
    assert window["since"] == 2, f"{told}: _globalstep_last_logged is no longer the step of the last line"
    assert window["loss"] == pytest.approx(1.0), f"{told}: _tr_loss is no longer the sum of losses since the last line"
    assert window["metrics"] == {"rows": [2.0, 2.0]}, f"{told}: a value per batch since the last line"
    again = made(kind, vlm, artifact)
    again.args.logging_steps = 2
    again.add_callback(Restore())
    again.train()
    first = next(line for line in again.state.log_history if "loss" in line)
    assert first["loss"] == pytest.approx((10.0 + 2 * 1.0) / 4), (
        f"{told}: _tr_loss, _globalstep_last_logged have no effect"
    )
    assert first["rows"] == (4 * 8.0 + 4 * 2.0) / 8, f"{told}: what is added to _metrics has no effect"


@pytest.mark.parametrize(("kind", "arguments"), [(SFTTrainer, SFTConfig), (DPOTrainer, DPOConfig)])
def test_a_dataset_with_an_images_column_is_left_as_it_is(
    kind: Any, arguments: Any, vlm: Vlm, artifact: Artifact
) -> None:
    told = f"{WHO}: an `images` column no longer keeps TRL from tokenising the dataset"
    try:
        columns = stock(kind, arguments, vlm, artifact).train_dataset.column_names
    except Exception as error:
        pytest.fail(f"{told} ({error!r})")
    assert columns == ["row", "images"], told


def test_trls_copy_of_the_adapter_is_called_ref_and_is_not_needed(vlm: Vlm, artifact: Artifact) -> None:
    trainer = stock(DPOTrainer, DPOConfig, vlm, artifact)
    model: Any = trainer.model
    assert set(model.peft_config) == {"default", "ref"}, f"{WHO}: the reference adapter is no longer called 'ref'"
    assert trainer.precompute_ref_logps is False, f"{WHO}: precompute_ref_logps no longer says who knows the reference"
    model.delete_adapter("ref")
    ours: Any = made(preference_trainer, vlm, artifact)
    assert set(ours.model.peft_config) == {"default"}, f"{WHO}: 'ref' is still there, and would be saved"
    assert ours.precompute_ref_logps is True


@pytest.mark.parametrize("arguments", [SFTConfig, DPOConfig])
def test_batches_are_taken_as_they_are_on_the_one_gpu_of_a_process(arguments: Any, artifact: Artifact) -> None:
    on_gpu: Any = SimpleNamespace(base=SimpleNamespace(dtype=torch.float32, device=torch.device("cuda")))
    settings = trainer_arguments(arguments, CONFIG, artifact, on_gpu, 0)
    assert not settings.dataloader_pin_memory, "only tensors in host memory can be pinned"
    assert settings.n_gpu == 1, f"{WHO}: n_gpu no longer reads _n_gpu; TRL refuses several GPUs in one process"
