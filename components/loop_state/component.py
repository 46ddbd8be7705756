"""KFP contract of the steps between two iterations. They take no time and need no accelerator."""

from kfp import dsl

from attrloop.components.base_images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def should_run(workspace: str, k: int, state: str) -> bool:
    """Whether iteration `k` should run: the run asks for that many, and the loop has not stopped early.

    Args:
        workspace: URI of the run's workspace.
        k: Number of the iteration, from 1.
        state: The loop's state (JSON).

    Returns:
        Output: Whether it should run.
    """
    from attrloop.components.loop_state.decisions import should_run

    return should_run(workspace, k, state)


@dsl.component(base_image=WORKER, install_kfp_package=False)
def keep(state: str) -> str:
    """Passes the state on when an iteration is skipped.

    Args:
        state: The loop's state (JSON).

    Returns:
        Output: The same state.
    """
    return state


@dsl.component(base_image=WORKER, install_kfp_package=False)
def latest_adapter(state: str) -> str:
    """The adapter that the next iteration starts from.

    Args:
        state: The loop's state (JSON).

    Returns:
        Output: Its path in the workspace.
    """
    from attrloop.components.loop_state.decisions import latest_adapter

    return latest_adapter(state)
