"""What a sampler of chains can do, and the opening of the one that a run is configured for."""

import importlib.util
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from attrloop.components.errors import fail

if TYPE_CHECKING:
    from attrloop.components.catalogue.prompts import Prompt
    from attrloop.components.model.decoding import Generation
    from attrloop.components.run.workspace import Workspace

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # LoRA ranks that vLLM makes room for
_REMEDY = "Sample in the sampler image (images/sampler), or set sample.engine: transformers"


class Sampler(Protocol):
    """A model with an adapter that decodes chains: `vlm.Vlm` or `vllm_engine.VllmEngine`."""

    def prepare(self, references: Sequence[str]) -> None:
        """Opens images (and encodes them, where that is kept), so that a bad one is found before anything is decoded.

        Raises:
            InputError: an image that cannot be read.
        """

    def forget(self) -> None:
        """Frees what only the images so far needed: none of them will be seen again soon."""

    def generate(
        self,
        batch: Sequence["Prompt"],
        max_new_tokens: int,
        batch_size: int,
        chains: int = 1,
        keys: Sequence[str] | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
    ) -> Iterator[tuple[int, list["Generation"]]]:
        """See `vlm.Vlm.generate`."""


def open_sampler(ws: "Workspace", adapter: str, keep_images: bool = True) -> Sampler:
    """The run's model with an adapter of its workspace ("" for none), in the engine that `sample.engine` names.

    Args:
        keep_images: whether encoded images are kept on this machine's disk, for steps that will see them again.

    Raises:
        InputError: the engine is not installed, or cannot hold the adapter.
        AttrloopError: it cannot load the model.
    """
    if ws.config.sample.engine == "vllm":
        from attrloop.components.model.vllm_engine import VllmEngine

        return VllmEngine.load(ws.config.model, ws.images, ws.store.folder(adapter) if adapter else None, adapter)
    from attrloop.components.model.vlm import Vlm

    vlm = Vlm.open(ws, adapter, keep=keep_images)
    vlm.merge()
    return vlm


def require(engine: str) -> None:
    """Refuses an engine that is not installed here.

    Raises:
        InputError: it is not.
    """
    if engine == "vllm" and importlib.util.find_spec("vllm") is None:
        raise fail("sample.engine vllm", "vLLM is not installed here", _REMEDY)


def room_for(rank: int, where: str) -> int:
    """The smallest LoRA rank that vLLM can be started with to hold one of `rank`.

    Raises:
        InputError: it has no room for so large a rank.
    """
    for room in RANKS:
        if rank <= room:
            return room
    raise fail(
        where,
        f"vLLM holds LoRA ranks up to {RANKS[-1]}, not {rank}",
        "Train with a smaller model.lora_rank, or set sample.engine: transformers",
    )
