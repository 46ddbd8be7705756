"""What the trainers are told, as far as it only matters on a GPU."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from trl import DPOConfig, SFTConfig

from attrloop.components.model.training import trainer_arguments
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.config import SftConfig
from attrloop.components.storage.store import open_store


@pytest.mark.parametrize("kind", [SFTConfig, DPOConfig])
def test_batches_are_taken_as_they_were_made_on_the_one_gpu_of_the_process(tmp_path: Path, kind: Any) -> None:
    on_gpu: Any = SimpleNamespace(base=SimpleNamespace(dtype=torch.float32, device=torch.device("cuda")))
    arguments = trainer_arguments(kind, SftConfig(), Artifact(open_store(tmp_path), "sft", {}), on_gpu, 0)
    assert not arguments.dataloader_pin_memory, "only tensors in the machine's memory can be pinned"
    assert arguments.n_gpu == 1, "TRL refuses to train with several in one process"
