"""Pictures of noise and a tiny model that looks at them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attrloop.components.catalogue.images import ImageReader
from attrloop.components.catalogue.prompts import Prompt
from attrloop.components.model.vlm import Vlm
from attrloop.components.run.config import DataConfig, ModelConfig
from tests.tiny import ARCHITECTURES

SIZES = ((64, 48), (64, 64), (40, 64), (64, 64))
# Questions of different lengths over images of different proportions: batches need padding.
PROMPTS = (
    Prompt("What is the pattern of this mug?", ("0.png",)),
    Prompt("What is the colour of this shirt? Choose one of: red, green", ("1.png",)),
    Prompt("colour", ("2.png",)),
)
TWO_IMAGES = Prompt("colour", ("2.png", "3.png"))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> ImageReader:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for k, (width, height) in enumerate(SIZES):
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(folder / f"{k}.png")
    return ImageReader(folder, DataConfig(catalogue_schema="", listings=""))


@pytest.fixture(params=list(ARCHITECTURES))
def vlm(request: pytest.FixtureRequest, base_of: Callable[[str], Path], pictures: ImageReader) -> Vlm:
    """A tiny random model of each architecture in turn; greedy decoding of it does not end at once."""
    return Vlm.load(ModelConfig(base=str(base_of(request.param)), lora_rank=4), pictures)


def prompts_for(vlm: Vlm) -> list[Prompt]:
    """Prompts that the architecture can take."""
    return [*PROMPTS, TWO_IMAGES] if "Onevision" not in type(vlm.base).__name__ else list(PROMPTS)


def adapt(vlm: Vlm, spread: float = 0.2) -> None:
    """Puts a LoRA adapter on the model that makes a difference."""
    import torch

    vlm.add_adapter(0)
    torch.manual_seed(1)
    for name, weight in vlm.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=spread)
    vlm.model.eval()
