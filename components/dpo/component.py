"""KFP contract of DPO."""

from kfp import dsl

from attrloop.components.base_images import TRAINER


@dsl.component(base_image=TRAINER, install_kfp_package=False)
def dpo(workspace: str, stage: str, adapter: str) -> str:
    """Trains the next adapter on the stage's pairs, from the previous adapter, which is also the reference.

    The loss is the one that `dpo.loss` names, and the NLL of the chosen chain.

    Writes `<stage>/dpo/adapter/` (a PEFT folder) and `<stage>/dpo/metrics.jsonl`.

    Args:
        workspace: URI of the run's workspace.
        stage: Name of the iteration, `iteration-1`, `iteration-2`, ...
        adapter: Path in the workspace of the previous adapter.

    Returns:
        Output: Path of the new adapter in the workspace.
    """
    from attrloop.components.dpo.train import train

    return train(workspace, stage, adapter)
