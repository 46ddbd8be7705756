"""KFP contract of fetching an adapter."""

from kfp import dsl

from attrloop.components.base_images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def fetch_adapter(workspace: str, adapter: str = "") -> str:
    """Copies an adapter that was trained before into the workspace, as the finished stage `start`.

    Writes `start/adapter/` (a PEFT folder), `start/settings.json` and a manifest that names the origin. The base model,
    image bounds and prompt that the adapter was trained with replace those of the workspace's config.

    Args:
        workspace: URI of the run's workspace.
        adapter: The adapter: `models:/NAME@ALIAS` or `models:/NAME/VERSION` of the MLflow registry, the folder of a
            finished run (its best stage), or the folder of an adapter in one; "" for the champion of the config's
            `tracking.model_name`.

    Returns:
        Output: Path of the adapter in the workspace.
    """
    from attrloop.components.fetch_adapter.fetch import fetch

    return fetch(workspace, adapter)
