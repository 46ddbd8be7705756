"""The engines by name. A new engine is a module that implements `Engine`, and one line in `ENGINES`."""

import importlib.util
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from attrloop.components.engines.engine import Engine
from attrloop.components.errors import fail

if TYPE_CHECKING:
    from attrloop.components.run.workspace import Workspace

# The name in `sample.engine`, which is also the package that the engine needs -> what opens it: see `open_engine`.
ENGINES = {
    "transformers": "attrloop.components.model.vlm:open_engine",
    "vllm": "attrloop.components.model.vllm_engine:open_engine",
}
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # LoRA ranks that vLLM makes room for
_REMEDY = "Sample in the sampler image (images/sampler), or set sample.engine: transformers"


def open_engine(ws: "Workspace", adapter: str, keep_images: bool = True) -> Engine:
    """The engine that `sample.engine` names, with the run's model and an adapter.

    Args:
        ws: the run's workspace.
        adapter: path of the adapter in the workspace; "" for the base model.
        keep_images: whether encoded images are kept on disk for later steps.

    Raises:
        InputError: the engine is not installed, or cannot hold the adapter.
        AttrloopError: it cannot load the model.
    """
    require(ws.config.sample.engine)
    opened: Engine = resolve_name(ENGINES[ws.config.sample.engine])(ws, adapter, keep_images)
    return opened


def require(engine: str) -> None:
    """Refuses an engine that is not installed here.

    Raises:
        InputError: it is not.
    """
    if engine != "transformers" and importlib.util.find_spec(engine) is None:
        raise fail(f"sample.engine {engine}", f"{engine} is not installed here", _REMEDY)


def room_for(rank: int, where: str) -> int:
    """The smallest LoRA rank that vLLM can be started with to hold one of `rank`.

    Raises:
        InputError: vLLM has no room for such a rank.
    """
    for room in RANKS:
        if rank <= room:
            return room
    raise fail(
        where,
        f"vLLM holds LoRA ranks up to {RANKS[-1]}, not {rank}",
        "Train with a smaller model.lora_rank, or set sample.engine: transformers",
    )
