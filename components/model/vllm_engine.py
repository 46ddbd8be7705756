"""Chains decoded by vLLM, from the same prompts, photographs and adapters as with `vlm.Vlm`.

vLLM pins other versions than training does (images/sampler). So it is imported here alone, and only when it is used.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import safe_open
from transformers import AutoProcessor

from attrloop.components.catalogue.images import ImageReader
from attrloop.components.catalogue.prompts import Prompt
from attrloop.components.digests import digest
from attrloop.components.engines.engine import Decoding, Generation
from attrloop.components.engines.vllm import room_for
from attrloop.components.errors import AttrloopError, fail
from attrloop.components.model.decoding import seed_of
from attrloop.components.model.features import bounded
from attrloop.components.model.tokens import Tokens
from attrloop.components.model.vlm import device_and_dtype
from attrloop.components.run.config import ModelConfig
from attrloop.components.run.workspace import Workspace

_AHEAD = 16  # batches handed over at once: vLLM decides how many it decodes together, and idles only at their end
_TOWER = re.compile(r"visual|vision|image")
_OTHER = "set sample.engine: transformers"


class VllmEngine:
    """A model in vLLM with an adapter: an `engines.engine.Engine`."""

    def __init__(self, llm: Any, adapter: Any, tokens: Tokens, config: ModelConfig, images: ImageReader) -> None:
        self.llm, self.adapter, self.tokens, self.config, self.images = llm, adapter, tokens, config, images
        self._pictures: dict[str, Image.Image] = {}
        self._verified = False

    @staticmethod
    def load(config: ModelConfig, images: ImageReader, adapter: Path | None = None, name: str = "") -> "VllmEngine":
        """Starts vLLM in this process, on one device.

        Args:
            config: which model.
            images: opens the images of prompts.
            adapter: a PEFT folder; None for the base model.
            name: of the adapter. vLLM takes adapters with the same name for one.

        Raises:
            InputError: vLLM cannot do what the adapter does.
            AttrloopError: vLLM is not installed, or cannot load the model.
        """
        rank = check_adapter(adapter) if adapter else 0
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault(
            "VLLM_ENABLE_V1_MULTIPROCESSING", "0"
        )  # requests are scheduled as they come: reproducible
        device, dtype = device_and_dtype(config.dtype)
        try:
            from vllm import LLM  # pyright: ignore[reportMissingImports]
            from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]

            llm = LLM(
                config.base,
                revision=config.revision,
                tokenizer_revision=config.revision,
                dtype=str(dtype).removeprefix("torch."),
                mm_processor_kwargs=config.processor or None,
                limit_mm_per_prompt={"video": 0, "audio": 0},
                max_model_len=-1,  # as long as memory allows
                enable_chunked_prefill=device.type
                != "cpu",  # on a CPU a prompt with a seed cannot be computed in pieces
                enable_lora=adapter is not None,
                **({"max_lora_rank": rank} if adapter else {}),
            )
            processor = AutoProcessor.from_pretrained(
                config.base, revision=config.revision, trust_remote_code=False, **config.processor
            )  # type: ignore[no-untyped-call]
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            raise AttrloopError(
                f"{config.base}: vLLM cannot be started with it ({error}). Correct this, or {_OTHER}."
            ) from error
        path = str(adapter)
        number = 1 + int(digest(name, path)[:7], 16)
        lora = LoRARequest(f"{name}-{digest(path)[:8]}", number, path) if adapter else None
        return VllmEngine(llm, lora, Tokens(processor), config, images)

    def prepare(self, references: Sequence[str]) -> None:
        """Opens images and keeps them, scaled down to `model.max_pixels`, until `forget`."""
        missing = [reference for reference in dict.fromkeys(references) if reference not in self._pictures]
        self.images.fetch(missing)
        for reference in missing:
            self._pictures[reference] = bounded(self.images.open(reference), self.config.max_pixels)

    def forget(self) -> None:
        """Frees the images."""
        self._pictures.clear()

    def generate(
        self, batch: Sequence[Prompt], decoding: Decoding, keys: Sequence[str] | None = None
    ) -> Iterator[tuple[int, list[Generation]]]:
        """Decodes prompts in their order.

        Args:
            batch: the prompts.
            decoding: how to decode them. A multiple of `batch_size` is handed to vLLM at once; vLLM decides how many it
                decodes together.
            keys: one per prompt. The seeds of its chains come from it. None decodes greedily.

        Yields:
            (index of the prompt, its `decoding.chains` generations) as batches finish.

        Raises:
            AttrloopError: a prompt that is too long, or that vLLM tokenises differently from the model's processor.
        """
        self.llm.reset_prefix_cache()  # what was decoded before must not change how this is computed
        size = _AHEAD * decoding.batch_size
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            seeds = [None] * len(part) if keys is None else [seed_of(key) for key in keys[start : start + len(part)]]
            outputs = self._decode(part, [_draw(decoding, seed) for seed in seeds])
            for k, output in enumerate(outputs):
                made = [self._generation(chain) for chain in output.outputs]
                yield start + k, made if keys is not None else made * decoding.chains

    def _decode(self, batch: Sequence[Prompt], draws: list[Any]) -> list[Any]:
        self.prepare([image for prompt in batch for image in prompt.images])
        requests = [
            {
                "prompt_token_ids": self.tokens.prompt(prompt.text, len(prompt.images)),
                "multi_modal_data": {"image": [self._pictures[image] for image in prompt.images]},
            }
            for prompt in batch
        ]
        from vllm.exceptions import VLLMClientError  # pyright: ignore[reportMissingImports]

        try:
            outputs = self.llm.generate(requests, draws, lora_request=self.adapter, use_tqdm=False)
        except (ValueError, VLLMClientError) as error:
            raise AttrloopError(
                f"{self.config.base}: vLLM refuses a prompt ({error}). Lower model.max_pixels, or {_OTHER}."
            ) from error
        for prompt, output in zip(batch, outputs, strict=True):
            # vLLM may read token ids as text again: then a control token's name in a title would become one.
            if not self._verified or self.tokens.names_control_tokens(prompt.text, len(prompt.images)):
                self._verify(prompt, output.prompt_token_ids)
        return outputs

    def _verify(self, prompt: Prompt, ids: list[int]) -> None:
        if list(ids) != self.tokens.whole(prompt.text, [self._pictures[image] for image in prompt.images]):
            what = "vLLM makes other tokens of a prompt than the model's own processor"
            raise fail(f"model.base {self.config.base}", what, f"{_OTHER[0].upper()}{_OTHER[1:]}")
        self._verified = True

    def _generation(self, chain: Any) -> Generation:
        ids = list(chain.token_ids)
        return self.tokens.generation(
            ids,
            [at[token].logprob for token, at in zip(ids, chain.logprobs, strict=True)],
            chain.finish_reason == "stop",
        )


def _draw(decoding: Decoding, seed: int | None) -> Any:
    """How a prompt's chains are drawn: each with its own seed, counted up from `seed`; greedily if there is none."""
    from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

    limits = {"max_tokens": decoding.max_new_tokens, "logprobs": 0, "detokenize": False}
    if seed is None:
        return SamplingParams(temperature=0, **limits)
    return SamplingParams(
        n=decoding.chains, seed=seed, temperature=decoding.temperature, top_p=decoding.top_p, **limits
    )


def open_engine(ws: Workspace, adapter: str, keep_images: bool) -> VllmEngine:
    """See `engines.registry.open_engine`; vLLM keeps no encoded images."""
    return VllmEngine.load(ws.config.model, ws.images, ws.adapter(adapter), adapter)


def check_adapter(folder: Path) -> int:
    """The LoRA rank that vLLM must be started with for an adapter.

    Raises:
        InputError: vLLM would ignore a part of it, or has no room for it.
    """
    with safe_open(folder / "adapter_model.safetensors", "pt") as weights:
        tower = [name for name in weights.keys() if _TOWER.search(name)]  # noqa: SIM118 - not a mapping
    if tower:
        what = f"it changes the vision tower ({tower[0]}), which vLLM leaves out"
        raise fail(str(folder), what, f"Train with model.lora_targets that match the language model alone, or {_OTHER}")
    return room_for(json.loads((folder / "adapter_config.json").read_text())["r"], str(folder))
