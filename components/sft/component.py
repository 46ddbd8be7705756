"""KFP contract of SFT."""

from kfp import dsl

from attrloop.components.base_images import TRAINER


@dsl.component(base_image=TRAINER, install_kfp_package=False)
def sft(workspace: str) -> str:
    """Trains a first LoRA adapter on the labels of the train split, with 'rationale + answer' as the target.

    Writes `sft/adapter/` (a PEFT folder) and `sft/metrics.jsonl`.

    Args:
        workspace: URI of the run's workspace.

    Returns:
        Output: Path of the adapter in the workspace.
    """
    from attrloop.components.sft.train import train

    return train(workspace)
