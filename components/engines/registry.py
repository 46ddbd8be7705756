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
    if importlib.util.find_spec(engine) is None:
        others = [other for other in ENGINES if importlib.util.find_spec(other)]
        instead = f", or set sample.engine: {others[0]}" if others else ""
        remedy = f"Install {engine}, or sample in an image that has it (images/README.md){instead}"
        raise fail(f"sample.engine {engine}", f"{engine} is not installed here", remedy)
