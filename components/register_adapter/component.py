"""KFP contract of adapter registration."""

from kfp import dsl

from attrloop.components.base_images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def register_adapter(workspace: str, state: str) -> str:
    """Logs the run to MLflow and registers the adapter of the best stage on validation as a model version.

    Writes `register/result.json`.

    Args:
        workspace: URI of the run's workspace.
        state: The loop's final state (JSON): every stage with its adapter and its macro accuracy on validation.

    Returns:
        Output: What was registered.
    """
    from attrloop.components.register_adapter.register import register

    return register(workspace, state)
