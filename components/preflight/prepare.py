"""The first step of a run: the config goes into the workspace, and everything is checked."""

from attrloop.components.run import overrides as settings
from attrloop.components.run.reporting import reports


@reports("preflight", creates=True)
def prepare(config: str, workspace: str, overrides: str = "", labels_only: bool = False) -> str:
    """Writes a run's config into its workspace and runs every check.

    Args:
        config: path or bucket URI of the run config.
        workspace: URI of the workspace.
        overrides: settings that replace the config's: a JSON object by dotted name; "" for none.
        labels_only: nothing is trained or promoted: there are no iterations for which unlabelled listings must be left.

    Returns:
        the workspace's URI.

    Raises:
        InputError: with all problems that were found.
    """
    from attrloop.components.preflight.check import check
    from attrloop.components.run.workspace import Workspace

    changes = settings.read_json(overrides) | ({"loop.iterations": 0} if labels_only else {})
    opened = Workspace.create(workspace, settings.resolve(config, changes, settings.PARAMETER))
    check(opened.store.root, promotes=not labels_only)
    return opened.store.root
