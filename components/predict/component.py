"""KFP contract of predicting a catalogue and of the review queue."""

from kfp import dsl

from attrloop.components.base_images import SAMPLER, WORKER


@dsl.component(base_image=WORKER, install_kfp_package=False)
def prepare_prediction(config: str, workspace: str, overrides: str = "") -> str:
    """Writes the config into the workspace and checks the whole catalogue, before a model is loaded.

    Args:
        config: Path or bucket URI of a run config (YAML), or of a workspace's `config.json`.
        workspace: URI of the folder that holds everything the prediction makes.
        overrides: Settings that replace the config's, JSON by dotted name, e.g. `{"data.listings": "gs://..."}`.

    Returns:
        Output: The workspace's URI, which every later component takes.
    """
    from attrloop.components.predict.stream import prepare

    return prepare(config, workspace, overrides)


@dsl.component(base_image=WORKER, install_kfp_package=False)
def share_out_catalogue(workspace: str, adapter: str, workers: int) -> list:
    """Begins the prediction and divides the catalogue between workers.

    Args:
        workspace: URI of the workspace.
        adapter: Path of the adapter in the workspace.
        workers: How many may predict at once.

    Returns:
        Output: The share of each: `1/2`, `2/2`.
    """
    from attrloop.components.predict.predict import share_out

    return share_out(workspace, adapter, workers)


@dsl.component(base_image=SAMPLER, install_kfp_package=False)
def predict(workspace: str, adapter: str, share: str = "1/1") -> str:
    """Answers every attribute of every listing by the vote of several chains. A finished shard is not predicted again.

    Writes `predictions/shard-*.parquet`.

    Args:
        workspace: URI of the workspace.
        adapter: Path of the adapter in the workspace.
        share: Which of the shards: `k/n` is every n-th from the k-th on.

    Returns:
        Output: Path of the predictions in the workspace.
    """
    from attrloop.components.predict.predict import predict

    return predict(workspace, adapter, share)


@dsl.component(base_image=WORKER, install_kfp_package=False)
def review_queue(
    workspace: str, metrics: dsl.Output[dsl.Metrics], per_attribute: int = 20, image_root: str = ""
) -> str:
    """Writes what people are asked about as Label Studio projects, and a summary of all predictions.

    People are asked about the least confident predictions of every attribute, which may be trained on, and about all
    attributes of some listings that are drawn for gold.

    Writes `review/queue.parquet`, `review/summary.json`, and `tasks.json` and `config.xml` of each project.

    Args:
        workspace: URI of the workspace.
        per_attribute: Predictions to review of each vertical and attribute, besides those drawn for gold.
        image_root: URL of the listings file's folder for Label Studio; "" puts local images into the tasks.

    Returns:
        Output: Path of the queue in the workspace.
        metrics: Predictions, mean agreement, fractions of unanimous and of off-list ones.
    """
    from attrloop.components.predict.queue import review

    return review(workspace, per_attribute, image_root, metrics)
