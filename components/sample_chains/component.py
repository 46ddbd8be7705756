"""KFP contract of chain sampling."""

import os

from kfp import dsl


@dsl.component(base_image=os.environ.get("ATTRLOOP_IMAGE", "attrloop-python:dev"), install_kfp_package=False)
def sample_chains(workspace: str, stage: str, adapter: str) -> str:
    """Samples reasoning-and-answer chains for the unlabelled listings, and for the labelled ones of train and validation.

    Writes `<stage>/chains/part-*.parquet`; a shard that is finished is not sampled again.

    Args:
        workspace: URI of the run's workspace.
        stage: Name of the iteration, `iteration-1`, `iteration-2`, ...
        adapter: Path in the workspace of the adapter that the chains are sampled from.

    Returns:
        Output: Path of the chains in the workspace.
    """
    from attrloop.components.sample_chains.sample import sample

    return sample(workspace, stage, adapter)
