"""The whole loop as one Kubeflow pipeline: preflight, annotate, SFT, iterations, test, registration, promotion, report."""

from typing import Any

from kfp import dsl

from attrloop.components.annotate.component import annotate
from attrloop.components.evaluate.component import evaluate
from attrloop.components.preflight.component import preflight
from attrloop.components.sft.component import sft
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
        name="attribute-loop",
        description="Makes a compact vision-language model good at product attributes, from a handful of labels and all the unlabelled listings.",
    )
    @with_resources(cluster, "sft", "sample", "dpo", "evaluate", secrets=("annotation", "hub", "tracking"))
    def attribute_loop(
        config: str,
        workspace: str,
        annotate_max_cost: float = -1.0,
        annotate_model: str = "",
        annotate_train_per_vertical: int = -1,
        data_labels: str = "",
        data_listings: str = "",
        data_schema: str = "",
        gpu_sample_workers: int = 1,
        loop_iterations: int = -1,
        loop_seed: int = -1,
        model_base: str = "",
        model_revision: str = "",
        sample_chains: int = -1,
        sample_max_listings: int = -1,
        tracking_experiment: str = "",
        tracking_uri: str = "",
        *,
        resources: Resources,
    ) -> str:
        """The loop. An override that is "" or negative leaves the value of the config file, which holds every other setting.

        Args:
            config: Path of the run config (YAML), or of a workspace's `config.json`.
            workspace: URI of the folder that holds everything the run makes; the same folder again continues or reuses.
            annotate_max_cost: Budget for labels in US dollars; annotation stops before crossing it.
            annotate_model: The teacher's name at its OpenAI-compatible endpoint.
            annotate_train_per_vertical: Listings labelled for SFT in each vertical.
            data_labels: Path of labels that exist already (JSONL).
            data_listings: Path of the listings (JSONL or Parquet).
            data_schema: Path of `schema.yaml`.
            gpu_sample_workers: Pods that sample chains at once, each with its own accelerator; their number does not change the result.
            loop_iterations: The most iterations after SFT; the pipeline has room for as many as it was compiled with.
            loop_seed: Every random choice derives from it.
            model_base: Hub id or folder of the vision-language model.
            model_revision: Hub commit of the base model.
            sample_chains: Chains per listing and attribute.
            sample_max_listings: Unlabelled listings used in an iteration; 0 for all.
            tracking_experiment: The MLflow experiment.
            tracking_uri: The MLflow tracking server.

        Returns:
            Output: The loop's final state (JSON): every stage with its adapter and its macro accuracy on validation.
        """
        checked = preflight(
            config=config,
            workspace=workspace,
            annotate_max_cost=annotate_max_cost,
            annotate_model=annotate_model,
            annotate_train_per_vertical=annotate_train_per_vertical,
            data_labels=data_labels,
            data_listings=data_listings,
            data_schema=data_schema,
            loop_iterations=loop_iterations,
            loop_seed=loop_seed,
            model_base=model_base,
            model_revision=model_revision,
            sample_chains=sample_chains,
            sample_max_listings=sample_max_listings,
            tracking_experiment=tracking_experiment,
            tracking_uri=tracking_uri,
        )
        root = checked.output
        labels = annotate(workspace=root)
        first = sft(workspace=root).after(labels)
        start = evaluate(workspace=root, stage="sft", adapter=first.output)
        state = unroll(root, start.outputs["Output"], max_iterations, body, gpu_sample_workers=gpu_sample_workers, **resources.handed_on(body))
        conclude(root, state, resources)
        uncached(checked, labels, first, start)
        resources.cpu(checked, annotator=True, tracking=True, models=True, retried=False)
        resources.cpu(labels, annotator=True)
        resources.gpu("sft", first)
        resources.gpu("evaluate", start)
        return state

    return attribute_loop
