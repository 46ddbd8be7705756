"""KFP contract of annotate."""

from kfp import dsl

from attrloop.components.base_images import WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def annotate(workspace: str) -> None:
    """Has the annotator label a sample of listings within a budget, and splits them into train, validation and test.

    Reads the listings and the labels that exist already. Writes `annotate/labels.jsonl` (all labels with their split),
    `annotate-cache/` (every reply, so that none is paid for twice) and `annotate/report.json`. The annotator's key is
    in the environment variable that `annotate.key_env` of the run config names.

    Args:
        workspace: URI of the run's workspace.
    """
    from attrloop.components.annotate.annotate import annotate

    annotate(workspace)
