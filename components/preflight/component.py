"""KFP contract of preflight: nothing starts before it has passed."""

from kfp import dsl

from attrloop.components.base_images import TRAINER


@dsl.component(base_image=TRAINER, install_kfp_package=False)
def preflight(config: str, workspace: str, overrides: str = "", labels_only: bool = False) -> str:
    """Writes the run's config into the workspace and checks everything that can be known before compute is paid for.

    Args:
        config: Path or bucket URI of the run config (YAML), or of a workspace's `config.json`.
        workspace: URI of the folder that holds everything the run makes.
        overrides: Settings that replace the config's, JSON by dotted name, e.g. `{"sample.temperature": 0.7}`.
        labels_only: Whether the run ends with the labels, so that no unlabelled listings need to be left.

    Returns:
        Output: The workspace's URI, which every later component takes.
    """
    from attrloop.components.preflight.prepare import prepare

    return prepare(config, workspace, overrides, labels_only)
