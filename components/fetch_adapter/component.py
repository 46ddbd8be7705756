"""KFP contract of fetching an adapter."""

from kfp import dsl

from attrloop.components.base_images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def fetch_adapter(workspace: str, adapter: str = "") -> str:
    """Brings an adapter that was trained before into the workspace, as the finished stage `start`, and adopts the settings that it was trained with.

    Writes `start/adapter/` (a PEFT folder), `start/settings.json`, a manifest that names the origin, and the base model, image bounds and prompt into the
    workspace's config.

    Args:
        workspace: URI of the run's workspace.
        adapter: The adapter: `models:/NAME@ALIAS` or `models:/NAME/VERSION` of the MLflow registry, the folder of a finished run (its best stage), or of an
            adapter in one; "" for the champion of the config's `tracking.model_name`.

    Returns:
        Output: Path of the adapter in the workspace.
    """
    from attrloop.components.fetch_adapter.fetch import fetch

    return fetch(workspace, adapter)
