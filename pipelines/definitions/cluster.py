"""What a pipeline must know of its cluster when it is compiled. Imports no kfp."""

from dataclasses import dataclass

from attrloop.components.base_images import PLACEHOLDER
from attrloop.components.errors import Problem


@dataclass(frozen=True)
class Cluster:
    """What Kubeflow accepts only when a pipeline is compiled.

    Attributes:
        retries: new attempts for each step except the checks at the start; each continues where the last one stopped.
        back_off: seconds before the first new attempt; they double each time, up to half an hour.
        timeout_hours: hours after which a running pod is stopped; a new attempt continues.
        queue: Kueue's local queue that pods with accelerators wait in; "" for none.
        models_claim: a volume claim with base models that many pods can read: `model.base` may be a folder in it, and
            it holds the hub's cache; "" for none.
        key_env: the environment variable of the annotator's key: `annotate.key_env` of the run's config.
        ask_hub: whether steps that load the base model may ask the hub for what its cache does not hold.
        at_once: workers that run at once; 0 for all.
    """

    retries: int = 3
    back_off: int = 60
    timeout_hours: float = 24
    queue: str = ""
    models_claim: str = ""
    key_env: str = "OPENAI_API_KEY"
    ask_hub: bool = True
    at_once: int = 0


def no_images(where: str) -> Problem:
    """The problem of a pipeline that was compiled without images.

    Args:
        where: the pipeline, or its file.
    """
    return Problem(
        where,
        f"the image of its steps is {PLACEHOLDER}, a placeholder that no cluster has",
        "Set ATTRLOOP_WORKER_IMAGE and ATTRLOOP_TRAINER_IMAGE when it is compiled: `make images` writes them to "
        "build/images.env (set -a; . build/images.env)",
    )


# On one machine a new attempt would only fail again, and workers share a device. Whether the hub is asked depends on
# the person's own environment.
LOCAL = Cluster(retries=0, ask_hub=False, at_once=1)
