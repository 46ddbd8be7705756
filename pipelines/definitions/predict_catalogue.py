"""Prediction of a catalogue with a trained adapter, and the queue of answers that a person should look at."""

from typing import Any

from kfp import dsl

from attrloop.components.fetch_adapter.component import fetch_adapter
from attrloop.components.predict.component import predict, prepare_prediction, review_queue, share_out_catalogue
from attrloop.pipelines.definitions.cluster import Cluster
from attrloop.pipelines.definitions.iteration import uncached
from attrloop.pipelines.definitions.resources import Resources, with_resources


def build(cluster: Cluster) -> Any:
    """The pipeline, for a cluster."""

    @dsl.pipeline(name="workers")
    @with_resources(cluster, "predict")
    def workers(workspace: str, adapter: str, number: int, resources: Resources) -> None:
        """Predicts the catalogue with several workers at once.

        Args:
            workspace: URI of the workspace.
            adapter: Path of the adapter in the workspace.
            number: How many workers.
            resources: What the steps ask of the cluster.
        """
        divided = share_out_catalogue(workspace=workspace, adapter=adapter, workers=number)
        uncached(divided)
        resources.cpu(divided)
        with dsl.ParallelFor(divided.output, name="worker", parallelism=cluster.at_once) as share:
            predicted = predict(workspace=workspace, adapter=adapter, share=share)
            uncached(predicted)
            resources.gpu("predict", predicted)

    @dsl.pipeline(
        name="predict-catalogue",
        description="Answers every attribute of every listing with a trained adapter, and queues the doubtful answers.",
    )
    @with_resources(cluster, "predict", secrets=("hub", "tracking"))
    def predict_catalogue(
        config: str,
        workspace: str,
        overrides: str = "",
        adapter: str = "",
        review_image_root: str = "",
        review_per_attribute: int = 20,
        workers_count: int = 1,
        *,
        resources: Resources,
    ) -> str:
        """Predicts a catalogue.

        Args:
            config: Path or bucket URI of the run config (YAML), or of a workspace's `config.json`.
            workspace: URI of the folder that holds everything the prediction makes; the same folder again continues.
            overrides: Settings that replace the config's, JSON by dotted name, e.g. `{"data.listings": "gs://..."}`.
            adapter: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, the folder of a finished run or of an adapter in it;
                "" for the champion.
            review_image_root: URL at which Label Studio finds the folder of the listings file; "" to put local images
                into the tasks.
            review_per_attribute: Predictions to review of each vertical and attribute, least confident first.
            workers_count: Workers that predict at once; each takes a share of the catalogue.
            resources: What the steps ask of the cluster.

        Returns:
            Output: Path of the review queue in the workspace.
        """
        checked = prepare_prediction(config=config, workspace=workspace, overrides=overrides)
        root = checked.output
        fetched = fetch_adapter(workspace=root, adapter=adapter)
        predicted = workers(
            workspace=root, adapter=fetched.output, number=workers_count, **resources.handed_on(workers)
        )
        queued = review_queue(workspace=root, per_attribute=review_per_attribute, image_root=review_image_root).after(
            predicted
        )
        uncached(checked, fetched, predicted, queued)
        resources.cpu(checked, retried=False)
        resources.cpu(queued)
        resources.cpu(fetched, tracking=True)
        return queued.outputs["Output"]

    return predict_catalogue
