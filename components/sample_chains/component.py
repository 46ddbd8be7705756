"""KFP contract of chain sampling: shards are divided between workers, which sample at the same time."""

from kfp import dsl

from attrloop.components.base_images import SAMPLER, WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def share_out(workspace: str, stage: str, adapter: str, workers: int) -> list:
    """Begins the sampling of an iteration and divides it between workers.

    Args:
        workspace: URI of the run's workspace.
        stage: Name of the iteration, `iteration-1`, `iteration-2`, ...
        adapter: Path in the workspace of the adapter that the chains are sampled from.
        workers: How many may sample at once.

    Returns:
        Output: The share of each: `1/2`, `2/2`.
    """
    from attrloop.components.sample_chains.sample import share_out

    return share_out(workspace, stage, adapter, workers)


@dsl.component(base_image=SAMPLER, install_kfp_package=False)
def sample_chains(workspace: str, stage: str, adapter: str, share: str = "1/1") -> str:
    """Samples reasoning-and-answer chains for unlabelled listings and for labelled ones of train and validation.

    Writes `<stage>/chains/shard-*.parquet`. A finished shard is not sampled again. The worker that makes the last shard
    finishes the chains.

    Args:
        workspace: URI of the run's workspace.
        stage: Name of the iteration, `iteration-1`, `iteration-2`, ...
        adapter: Path in the workspace of the adapter that the chains are sampled from.
        share: Which of the shards: `k/n` is every n-th from the k-th on.

    Returns:
        Output: Path of the chains in the workspace.
    """
    from attrloop.components.sample_chains.sample import sample

    return sample(workspace, stage, adapter, share)
