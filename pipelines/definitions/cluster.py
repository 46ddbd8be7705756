"""What must be known of a cluster when a pipeline is compiled, since Kubeflow takes it at no other time. Imports no kfp."""

from dataclasses import dataclass

from attrloop.components.base_images import PLACEHOLDER
from attrloop.components.errors import Problem


@dataclass(frozen=True)
class Cluster:
    """What must be known when the pipeline is compiled.

    Attributes:
        retries: new attempts for every step but the checks at the start; each goes on where the last one was stopped.
        back_off: seconds before the first new attempt; doubles each time, up to half an hour.
        timeout_hours: after so long a pod that runs is stopped; a new attempt goes on.
        queue: Kueue's local queue that pods with accelerators wait in; "" for none.
        models_claim: a volume claim, readable by many pods, with base models: `model.base` may be a folder of it, and the hub's cache lies there; "" for none.
        key_env: the environment variable that the annotator's key is put in, `annotate.key_env` of the run's config.
        ask_hub: whether steps that load the base model ask the hub for it; what the hub's cache holds is taken from there.
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
    """What is wrong with a pipeline that was compiled without images.

    Args:
        where: the pipeline, or its file.
    """
    return Problem(
        where,
        f"the image of its steps is {PLACEHOLDER}, which only stands for one and is on no cluster",
        "Set ATTRLOOP_WORKER_IMAGE and ATTRLOOP_TRAINER_IMAGE when it is compiled: `make images` writes them to build/images.env (set -a; . build/images.env)",
    )


# On one machine a fault would only be repeated, workers share a device, and kfp.local's log is in disorder once tasks have run at the same time.
# Whether the hub is asked is for the person's own environment to say.
LOCAL = Cluster(retries=0, ask_hub=False, at_once=1)
