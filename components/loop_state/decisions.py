"""The decisions between two iterations."""

from attrloop.components.run.state import LoopState
from attrloop.components.run.workspace import Workspace


def should_run(workspace: str, k: int, state: str) -> bool:
    """Whether an iteration should run: the config asks for that many, and the loop has not stopped early.

    Args:
        workspace: URI of the run's workspace.
        k: number of the iteration, from 1.
        state: the loop's state (JSON).

    Raises:
        InputError: the workspace's config is damaged.
    """
    config = Workspace.open(workspace).config
    return k <= config.loop.iterations and not LoopState.model_validate_json(state).stop


def latest_adapter(state: str) -> str:
    """Path in the workspace of the adapter that the next iteration starts from."""
    return LoopState.model_validate_json(state).latest.adapter
