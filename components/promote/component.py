"""KFP contract of promotion."""

from kfp import dsl

from attrloop.components.base_images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def promote(workspace: str, state: str) -> str:
    """Makes the registered version the champion if the gate passes, and records the reason either way.

    Writes `promote/result.json`, the MLflow alias and an entry of the promotions ledger. Runs after `register_adapter`.

    Args:
        workspace: URI of the run's workspace.
        state: The loop's final state (JSON).

    Returns:
        Output: The gate's verdict.
    """
    from attrloop.components.promote.promote import promote

    return promote(workspace, state)
