"""Every engine is given the tokens that a model's own processor makes of a prompt."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from transformers import AutoProcessor

from attrloop.components.catalogue.images import ImageReader
from attrloop.components.catalogue.prompts import Prompt
from attrloop.components.errors import AttrloopError
from attrloop.components.model.features import image_placeholder
from attrloop.components.model.tokens import Tokens
from attrloop.components.model.vlm import Vlm
from attrloop.components.run.config import DataConfig, ModelConfig
from tests.tiny import ARCHITECTURES

QUESTION = "What is the pattern of this mug?\nChoose one of: solid, striped.\nSay what you see, then Answer:"


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_the_token_that_closes_an_answer_is_that_of_the_chat_template(
    base_of: Callable[[str], Path], architecture: str
) -> None:
    tokens = Tokens(AutoProcessor.from_pretrained(base_of(architecture)))
    closing, other = tokens.tokenizer.eos_token_id, 5
    assert tokens.closing([other, closing]) == closing, "though the model stops at the other as well"
    assert tokens.closing([other]) == other


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_a_prompt_has_a_placeholder_for_each_image_where_the_processor_puts_its_tokens(
    base_of: Callable[[str], Path], tmp_path: Path, architecture: str
) -> None:
    base = base_of(architecture)
    Image.effect_noise((64, 64), 60).convert("RGB").save(tmp_path / "mug.png")
    reader = ImageReader(tmp_path, DataConfig(catalogue_schema="", listings=""))
    tokens = Tokens(AutoProcessor.from_pretrained(base))
    whole = tokens.whole(QUESTION, [reader.open("mug.png")])
    (encoded,) = Vlm.load(ModelConfig(base=str(base)), reader).encode([Prompt(QUESTION, ("mug.png",))])
    assert whole == encoded.ids.tolist(), "what is trained on is what is sampled from"
    placeholder = tokens.tokenizer.convert_tokens_to_ids(image_placeholder(tokens.processor))
    ids = tokens.prompt(QUESTION, 1)
    slot = ids.index(placeholder)
    assert ids.count(placeholder) == 1 and len(whole) > len(ids)
    assert whole[:slot] == ids[:slot] and whole[len(whole) - (len(ids) - slot - 1) :] == ids[slot + 1 :]
    assert tokens.prompt(QUESTION, 2).count(placeholder) == 2


def test_a_processor_without_a_chat_template_is_an_error_that_names_the_model(
    base_of: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(base_of("idefics3"), tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    reader = ImageReader(tmp_path, DataConfig(catalogue_schema="", listings=""))
    with pytest.raises(AttrloopError, match=r"base: its processor's chat template cannot be used .*Use another base"):
        Vlm.load(ModelConfig(base=str(tmp_path / "base")), reader)
