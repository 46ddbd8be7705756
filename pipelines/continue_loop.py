"""Further iterations from an adapter that exists already, on new listings: the loop without its SFT."""

from typing import Any

from kfp import dsl

from attrloop.components.annotate.component import annotate
from attrloop.components.evaluate.component import evaluate
from attrloop.components.fetch_adapter.component import fetch_adapter
from attrloop.components.preflight.component import preflight
from attrloop.pipelines.cluster import Cluster
from attrloop.pipelines.iteration import build_iteration, conclude, uncached, unroll
from attrloop.pipelines.resources import Resources, with_resources


def build(cluster: Cluster, max_iterations: int) -> Any:
    """The pipeline.

    Args:
        cluster: where it will run.
        max_iterations: how many it has room for.
    """
    body = build_iteration(cluster)

    @dsl.pipeline(
        name="continue-loop", description="Improves a registered adapter in further iterations on new listings, and promotes the result if it is better."
    )
    @with_resources(cluster, "sample", "dpo", "evaluate", secrets=("annotation", "hub", "tracking"))
    def continue_loop(
        config: str,
        workspace: str,
        adapter: str = "",
        annotate_max_cost: float = -1.0,
        annotate_train_per_vertical: int = -1,
        data_labels: str = "",
        data_listings: str = "",
        data_schema: str = "",
        gpu_sample_workers: int = 1,
        loop_iterations: int = -1,
        loop_seed: int = -1,
        sample_chains: int = -1,
        sample_max_listings: int = -1,
        tracking_experiment: str = "",
        tracking_uri: str = "",
        *,
        resources: Resources,
    ) -> str:
        """Continues the loop. An override that is "" or negative leaves the value of the config file, which holds every other setting.

        Args:
            config: Path of the run config (YAML), or of a workspace's `config.json`.
            workspace: URI of the folder that holds everything the run makes; the same folder again continues or reuses.
            adapter: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, the folder of a finished run, or of an adapter in one; "" for the champion.
            annotate_max_cost: Budget for labels in US dollars; annotation stops before crossing it.
            annotate_train_per_vertical: Listings labelled for training in each vertical.
            data_labels: Path of labels that exist already (JSONL), e.g. reviewed ones.
            data_listings: Path of the listings (JSONL or Parquet).
            data_schema: Path of `schema.yaml`.
            gpu_sample_workers: Pods that sample chains at once, each with its own accelerator; their number does not change the result.
            loop_iterations: The most iterations; the pipeline has room for as many as it was compiled with.
            loop_seed: Every random choice derives from it.
            sample_chains: Chains per listing and attribute.
            sample_max_listings: Unlabelled listings used in an iteration; 0 for all.
            tracking_experiment: The MLflow experiment.
            tracking_uri: The MLflow tracking server, whose registry holds the adapter.

        Returns:
            Output: The loop's final state (JSON): every stage with its adapter and its macro accuracy on validation.
        """
        checked = preflight(
            config=config,
            workspace=workspace,
            annotate_max_cost=annotate_max_cost,
            annotate_train_per_vertical=annotate_train_per_vertical,
            data_labels=data_labels,
            data_listings=data_listings,
            data_schema=data_schema,
            loop_iterations=loop_iterations,
            loop_seed=loop_seed,
            sample_chains=sample_chains,
            sample_max_listings=sample_max_listings,
            tracking_experiment=tracking_experiment,
            tracking_uri=tracking_uri,
        )
        root = checked.output
        fetched = fetch_adapter(workspace=root, adapter=adapter)
        labels = annotate(workspace=root).after(fetched)  # an adapter that is not there should be known before labels are paid for
        start = evaluate(workspace=root, stage="start", adapter=fetched.output).after(labels)
        state = unroll(root, start.outputs["Output"], max_iterations, body, gpu_sample_workers=gpu_sample_workers, **resources.handed_on(body))
        conclude(root, state, resources)
        uncached(checked, fetched, labels, start)
        resources.cpu(checked, annotator=True, tracking=True, models=True, retried=False)
        resources.cpu(labels, annotator=True)
        resources.cpu(fetched, tracking=True)
        resources.gpu("evaluate", start)
        return state

    return continue_loop
