"""Trains the language model of the demo's base: a weak generalist.

It learns from captions of a few clean photographs, which describe evidence in words that are not values ('upright
bars'), and from text-only lessons: which evidence means which value, and how to answer a question with a closed list
from a description. So it knows the words, the answer format, and a little of what it sees. On the catalogue's
photographs it names about three quarters of what the features of its tower would allow. Labels and unlabelled listings
close that gap.
"""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as tokenizer_models
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from attrloop.components.catalogue.images import ImageReader
from attrloop.components.catalogue.prompts import Prompt
from attrloop.components.engines.engine import Decoding
from attrloop.components.model.decoding import decode
from attrloop.components.model.encoded import Encoded, encode
from attrloop.components.model.features import ImageTokens
from attrloop.components.model.logprobs import completion_logprobs
from attrloop.components.model.vlm import Vlm
from attrloop.components.run.config import DataConfig, ModelConfig
from attrloop.pipelines.demo.renderer import IMAGE_SIZE, render
from attrloop.pipelines.demo.training.lessons import Lesson, caption, comprehension, copying, definition
from attrloop.pipelines.demo.training.tower import GRID, VISION_CONFIG, WIDTH, Student, normalise
from attrloop.pipelines.demo.world import FAMILIES, sample_product

_SPECIALS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, which can encode any text.

    Every word of the world, of the prompts and of RETAIL_WORDS is one token or a few.
    """
    rng = random.Random(seed)
    corpus = [
        text
        for _ in range(3_000)
        for lesson in (definition(rng), comprehension(rng), copying(rng), caption(rng, *_product(rng)))
        for text in lesson
    ]
    made = Tokenizer(tokenizer_models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1_600,
        special_tokens=_SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def _product(rng: random.Random) -> tuple[str, dict[str, str]]:
    return sample_product(np.random.default_rng(rng.getrandbits(32)))


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int, folder: Path, tower: Path) -> Vlm:
    """A Qwen2.5-VL model with an untrained language model and the trained tower.

    Args:
        tokenizer: of the language model.
        seed: of the weights.
        folder: the model is saved here, and loaded like a hub model.
        tower: file of the tower's weights.
    """
    torch.manual_seed(seed)
    sizes = {"patch_size": VISION_CONFIG["patch_size"], "merge_size": 2, "temporal_patch_size": 2}
    pixels = {
        "size": {"shortest_edge": IMAGE_SIZE**2, "longest_edge": IMAGE_SIZE**2},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**sizes, **pixels),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**sizes),
        chat_template=_CHAT,
    )
    token = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 3 * WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": token("<|im_end|>"),
        "pad_token_id": token("<|endoftext|>"),
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]},
    }
    tokens = {
        f"{name}_token_id": token(f"<|{word}|>")
        for name, word in (
            ("image", "image_pad"),
            ("video", "video_pad"),
            ("vision_start", "vision_start"),
            ("vision_end", "vision_end"),
        )
    }
    config = Qwen2_5_VLConfig(text_config=text, vision_config=VISION_CONFIG, tie_word_embeddings=True, **tokens)
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.model.visual.load_state_dict(load_file(tower))
    model.generation_config.eos_token_id = token("<|im_end|>")
    model.generation_config.pad_token_id = token("<|endoftext|>")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return Vlm.load(
        ModelConfig(base=str(folder), dtype="float32"),
        ImageReader(folder, DataConfig(catalogue_schema="", listings="")),
    )


@torch.no_grad()
def photographs(
    vlm: Vlm, count: int, seed: int, difficulty: tuple[float, float]
) -> list[tuple[ImageTokens, str, dict[str, str]]]:
    """Encoded photographs of random products, each with the product's vertical and values."""
    rng = np.random.default_rng(seed)
    products = [sample_product(rng) for _ in range(count)]
    images = np.stack([render(vertical, values, rng, rng.uniform(*difficulty)) for vertical, values in products])
    student = Student()
    student.tower = vlm.base.model.visual
    features = torch.cat([student(normalise(part)) for part in torch.from_numpy(images).permute(0, 3, 1, 2).split(500)])
    pad = vlm.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    ids, grid = torch.full((GRID * GRID,), pad), torch.tensor([[1, 2 * GRID, 2 * GRID]])
    tokens = [ImageTokens(ids, torch.ones_like(ids), f, {"image_grid_thw": grid}) for f in features]
    return [(token, vertical, values) for token, (vertical, values) in zip(tokens, products, strict=True)]


def train(vlm: Vlm, *, steps: int, captions: int, difficulty: tuple[float, float], seed: int, log: Path) -> None:
    """Trains the language model on captions and on the text-only lessons.

    Args:
        vlm: with a trained tower, which stays as it is.
        steps: of the optimiser.
        captions: how many photographs have captions.
        difficulty: range of these photographs.
        seed: of photographs and lessons.
        log: JSONL file that gets a line every 100 steps.
    """
    rng = random.Random(seed)
    pool = photographs(vlm, captions, seed + 1, difficulty)
    parameters = [p for name, p in vlm.base.named_parameters() if "visual" not in name]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(parameters, 2e-3, weight_decay=0.01, betas=(0.9, 0.98))
    started = time.monotonic()

    def seen() -> tuple[Encoded, str]:
        token, vertical, values = rng.choice(pool)
        text, target = caption(rng, vertical, values)
        return encode(vlm.tokens, Prompt(text, ("",)), (token,)), target

    def told(lesson: Callable[[random.Random], Lesson]) -> tuple[Encoded, str]:
        text, target = lesson(rng)
        return encode(vlm.tokens, Prompt(text, ()), ()), target

    vlm.base.train()
    for step in range(steps):
        for settings in optimiser.param_groups:
            settings["lr"] = 2e-3 * min(1, (step + 1) / 100) * max(0.02, 1 - step / steps)
        groups = [
            [seen() for _ in range(64)],
            [told(definition) for _ in range(16)],
            [told(comprehension) for _ in range(24)],
            [told(copying) for _ in range(8)],
        ]
        loss: Any = 0.0
        for weight, group in zip((1.0, 0.5, 0.5, 0.5), groups, strict=True):
            inputs = vlm.batch([row for row, _ in group], [target for _, target in group])
            loss = loss - weight * completion_logprobs(vlm.base, inputs).sum() / inputs["completion_mask"].sum()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            line = {"step": step + 1, "seconds": round(time.monotonic() - started), "loss": round(float(loss), 3)}
            with log.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)
    vlm.base.eval().requires_grad_(False)


def probe(vlm: Vlm, count: int, seed: int, difficulty: tuple[float, float]) -> float:
    """The fraction of evidence named rightly when asked to look at an attribute of a photograph."""
    rows, wanted = [], []
    for token, vertical, values in photographs(vlm, count, seed, difficulty):
        for family, value in values.items():
            rows.append(
                encode(
                    vlm.tokens, Prompt(f"Look at the {FAMILIES[family].attribute} of this {vertical}.", ("",)), (token,)
                )
            )
            wanted.append(FAMILIES[family].evidence[value])
    right = 0
    for start in range(0, len(rows), 200):
        ids, logprobs = decode(vlm.base, vlm.batch(rows[start : start + 200]), Decoding(16, 200), None)
        made = vlm._generations(ids, logprobs)
        right += sum(
            any(phrase in item.text for phrase in phrases)
            for item, phrases in zip(made, wanted[start : start + 200], strict=True)
        )
    return right / len(rows)
