"""KFP contract of pair mining."""

from kfp import dsl

from attrloop.components.base_images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def mine_pairs(workspace: str, stage: str) -> str:
    """Turns the votes of chains into weighted preference pairs and anchors.

    Reads the stage's chains and the labels. Writes `<stage>/pairs/pairs.parquet` and `<stage>/pairs/report.json`, which
    says what was kept, what was dropped, and why.

    Args:
        workspace: URI of the run's workspace.
        stage: Name of the iteration, `iteration-1`, `iteration-2`, ...

    Returns:
        Output: Path of the pairs in the workspace.
    """
    from attrloop.components.mine_pairs.mine import mine

    return mine(workspace, stage)
