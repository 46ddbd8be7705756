"""The vision-language model, with a LoRA adapter on its language model.

Any model that AutoModelForImageTextToText and AutoProcessor load will do. Its vision tower is frozen: an image's
features are computed once (see features.py), and everything here uses those.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, GenerationConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling

from attrloop.components.catalogue.images import ImageReader
from attrloop.components.catalogue.prompts import Prompt
from attrloop.components.digests import digest
from attrloop.components.engines.engine import Decoding, Generation
from attrloop.components.errors import AttrloopError
from attrloop.components.model.decoding import decode, uniforms
from attrloop.components.model.encoded import Encoded, encode, padded
from attrloop.components.model.features import FeatureCache, ImageTokens, bounded, encode_images
from attrloop.components.model.tokens import Tokens
from attrloop.components.run.config import ModelConfig
from attrloop.components.run.workspace import Workspace


def device_and_dtype(wanted: str) -> tuple[torch.device, torch.dtype]:
    """The device to run on, and the dtype. `auto` is bfloat16 if the device computes it in hardware, else float32."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted != "auto":
        return device, getattr(torch, wanted)
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return device, torch.bfloat16 if fast else torch.float32


class Vlm:
    """A loaded model with its processor, image reader and feature cache.

    Attributes:
        model: the transformers model, or the PeftModel around it.
        base: the transformers model itself.
        ends: ids of the tokens at which the model stops.
        end: the one of them that ends a trained answer.
    """

    def __init__(
        self, model: Any, processor: Any, config: ModelConfig, images: ImageReader, cache: Path | None
    ) -> None:
        self.model = self.base = model
        self.processor, self.tokenizer, self.config, self.images = processor, processor.tokenizer, config, images
        self.cache = FeatureCache(cache)
        self.tokens = Tokens(processor)
        ends = model.generation_config.eos_token_id
        self.ends = ends if isinstance(ends, list) else [ends]
        self.end = self.tokens.closing(self.ends)
        self.pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.end
        encoding = config.model_dump(include={"base", "revision", "max_pixels", "processor"})
        self._key = digest(
            images.version, encoding, model.config.to_json_string(), _weights_stamp(config.base), str(model.dtype)
        )

    @staticmethod
    def open(workspace: Workspace, adapter: str = "", trainable: bool = False, keep: bool = True) -> "Vlm":
        """The run's model, with an adapter of its workspace.

        Args:
            workspace: the run's.
            adapter: path of the adapter in the workspace; "" for none.
            trainable: whether the adapter will be trained.
            keep: whether encoded images are kept on this machine's disk; else they stay in memory.

        Raises:
            AttrloopError: see `load`.
        """
        cache = workspace.store.home / "cache" / "features.sqlite" if keep else None
        vlm = Vlm.load(workspace.config.model, workspace.images, cache)
        vlm.use(workspace.adapter(adapter), trainable)
        return vlm

    @staticmethod
    def load(config: ModelConfig, images: ImageReader, cache: Path | None = None) -> "Vlm":
        """Loads base model and processor.

        Raises:
            AttrloopError: not a VLM, not found, or an architecture that cannot take encoded images.
        """
        device, dtype = device_and_dtype(config.dtype)
        where = {"revision": config.revision, "trust_remote_code": False}
        try:
            settings = AutoConfig.from_pretrained(config.base, **where)
            model = AutoModelForImageTextToText.from_pretrained(
                config.base, config=settings, dtype=dtype, use_safetensors=True, **where
            )
            processor = AutoProcessor.from_pretrained(config.base, **where, **config.processor)  # type: ignore[no-untyped-call]
        except (OSError, ValueError, SafetensorError) as error:
            raise AttrloopError(
                f"{config.base}: cannot be loaded as a vision-language model ({error}). Name a hub id or folder of one."
            ) from error
        processor.tokenizer.padding_side = "left"
        model.requires_grad_(False)
        model.eval().to(device)  # type: ignore[no-untyped-call]
        if model.generation_config is None:
            model.generation_config = GenerationConfig.from_model_config(settings)
        if model.generation_config.eos_token_id is None:
            model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
        for name in ("temperature", "top_p", "top_k", "repetition_penalty"):
            setattr(model.generation_config, name, None)  # our own sampler draws the tokens
        model.generation_config.do_sample = False
        model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
        return Vlm(model, processor, config, images, cache)

    def use(self, adapter: Path | None, trainable: bool = False) -> None:
        """Replaces the present adapter with another one (a PEFT folder); None leaves the base model."""
        from peft import PeftModel

        if self.model is not self.base:
            self.base = self.model.unload()
        self.model = (
            self.base if adapter is None else PeftModel.from_pretrained(self.base, adapter, is_trainable=trainable)
        )
        self.model.eval()

    def merge(self) -> None:
        """Folds the adapter into the weights; decoding is a third faster. Not in bfloat16: that would round it away."""
        if self.model is not self.base and self.base.dtype == torch.float32:
            self.model = self.base = self.model.merge_and_unload()

    def add_adapter(self, seed: int) -> None:
        """Puts a fresh LoRA adapter on the language model; the tower stays as it is.

        Raises:
            AttrloopError: when `model.lora_targets` matches nothing.
        """
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(seed)
        config = LoraConfig(
            r=self.config.lora_rank,
            lora_alpha=self.config.lora_alpha,
            lora_dropout=self.config.lora_dropout,
            target_modules=self.config.lora_targets,
            task_type="CAUSAL_LM",
        )
        try:
            self.model = get_peft_model(self.base, config)
        except ValueError as error:
            what = f"{self.config.lora_targets!r} matches no layer of {self.config.base}"
            raise AttrloopError(f"model.lora_targets {what}. Correct the regex.") from error

    @torch.no_grad()
    def verify(self, images: int) -> None:
        """Checks that cached features change nothing: compares a prompt with what processor and model make of it.

        Args:
            images: how many images the prompt has.

        Raises:
            AttrloopError: the architecture does not encode images one by one.
        """
        pictures = [Image.effect_noise((96, 96), 64).convert("RGB")] * images
        stock = self.processor(
            text=[self.tokens.chat("Which?", images)], images=[pictures], return_tensors="pt", add_special_tokens=False
        ).to(self.base.device, self.base.dtype)
        row = encode(
            self.tokens, Prompt("Which?", ("",) * images), tuple(encode_images(self.base, self.processor, pictures))
        )
        same = row.ids.tolist() == stock["input_ids"][0].tolist()
        if same:
            wanted, found = (
                self.base(**inputs, logits_to_keep=1).logits.float() for inputs in (stock, self.batch([row]))
            )
            same = bool((wanted - found).abs().max() <= 0.05 * wanted.std())
        if not same:
            what = f"{type(self.base).__name__} does not encode {images} image(s) independently of the prompt"
            raise AttrloopError(f"{what}. Use views other than 'all', or another base model.")

    def prepare(self, references: Sequence[str]) -> None:
        """Encodes images, so that a bad one is found before anything is decoded."""
        self.image_tokens(references)

    def forget(self) -> None:
        """Frees the encoded images, unless they are kept on disk."""
        if self.cache.path is None:
            self.cache = FeatureCache(None)

    def image_tokens(self, references: Sequence[str], batch_size: int = 64) -> dict[str, ImageTokens]:
        """The encoded images by reference. Those that are not in the cache are encoded, `batch_size` at a time."""
        unique = list(dict.fromkeys(references))
        self.images.fetch(unique)
        keys = {reference: f"{self._key}-{self.images.digest(reference)}" for reference in unique}
        known = self.cache.get(keys.values())
        missing = list(dict.fromkeys(reference for reference in unique if keys[reference] not in known))
        for start in range(0, len(missing), batch_size):
            chunk = missing[start : start + batch_size]
            pictures = [bounded(self.images.open(reference), self.config.max_pixels) for reference in chunk]
            encoded = encode_images(self.base, self.processor, pictures)
            fresh = dict(zip((keys[reference] for reference in chunk), encoded, strict=True))
            self.cache.put(fresh)
            known |= fresh
        return {reference: known[keys[reference]] for reference in unique}

    def encode(self, batch: Sequence[Prompt]) -> list[Encoded]:
        """Token ids of prompts, with each image's placeholder replaced by the image's own tokens."""
        tokens = self.image_tokens([image for prompt in batch for image in prompt.images])
        return [encode(self.tokens, prompt, tuple(tokens[image] for image in prompt.images)) for prompt in batch]

    def batch(self, rows: Sequence[Encoded], completions: Sequence[str] | None = None) -> dict[str, Any]:
        """A batch on the model's device: prompts padded on the left, completions and their end tokens on the right.

        Args:
            rows: encoded prompts.
            completions: one text per prompt.

        Returns:
            `input_ids`, `attention_mask` [rows, length] and the image inputs. With completions also
            `completion_mask` [rows, longest completion].
        """
        inputs = {
            name: value.to(self.base.device)
            for name, value in padded(rows, self._ends(completions or []), self.pad).items()
        }
        images = [image for row in rows for image in row.images]
        if images:
            features = [image.features.to(self.base.device, self.base.dtype) for image in images]
            inputs["mm_encoder_outputs"] = {"image": BaseModelOutputWithPooling(pooler_output=features)}  # type: ignore[arg-type]
        return inputs

    def _ends(self, texts: Sequence[str]) -> list[torch.Tensor]:
        return [torch.tensor([*self.tokens.texts.text(text), self.end]) for text in texts]

    def completions(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids of completions with their end tokens, padded on the right, and which of them are tokens.

        Returns:
            int64 and bool, both [texts, longest].
        """
        ends = self._ends(texts)
        mask = torch.arange(max(map(len, ends)))[None] < torch.tensor([len(end) for end in ends])[:, None]
        ids = torch.nn.utils.rnn.pad_sequence(ends, batch_first=True, padding_value=self.pad)
        return ids.to(self.base.device), mask.to(self.base.device)

    def generate(
        self, batch: Sequence[Prompt], decoding: Decoding, keys: Sequence[str] | None = None
    ) -> Iterator[tuple[int, list[Generation]]]:
        """Decodes prompts, short ones first so that batches need little padding.

        Args:
            batch: the prompts.
            decoding: how to decode them.
            keys: one per prompt. A key decides the prompt's random numbers. None decodes greedily.

        Yields:
            (index of the prompt, its `decoding.chains` generations) as batches finish.
        """
        chains, length = decoding.chains, decoding.max_new_tokens
        order = sorted(range(len(batch)), key=lambda k: (len(batch[k].text), batch[k].text, k))
        for start in range(0, len(order), decoding.batch_size):
            part = order[start : start + decoding.batch_size]
            rows = self.encode([batch[k] for k in part])
            numbers = None if keys is None else torch.cat([uniforms(keys[k], chains, length) for k in part])
            ids, logprobs = decode(self.model, self.batch(rows), decoding, numbers)
            made = self._generations(ids, logprobs)
            for place, k in enumerate(part):
                yield k, made[place * chains : (place + 1) * chains]

    def _generations(self, ids: torch.Tensor, logprobs: torch.Tensor) -> list[Generation]:
        ended = torch.isin(ids, torch.tensor(self.ends))
        lengths = [int(row.nonzero()[0]) + 1 if row.any() else len(row) for row in ended]
        rows = zip(ids, logprobs, lengths, ended.any(1).tolist(), strict=True)
        return [
            self.tokens.generation(row[:length].tolist(), values[:length].tolist(), done)
            for row, values, length, done in rows
        ]


def _weights_stamp(base: str) -> str:
    """Tells the weights in a local folder from earlier ones there. Hub models have a revision for that."""
    return digest(
        sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in Path(base).glob("*.safetensors"))
    )


def open_engine(ws: Workspace, adapter: str, keep_images: bool) -> Vlm:
    """See `engines.registry.open_engine`."""
    vlm = Vlm.open(ws, adapter, keep=keep_images)
    vlm.merge()
    return vlm
