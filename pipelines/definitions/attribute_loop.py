"""The whole loop as one pipeline: preflight, annotate, SFT, iterations, test, registration, promotion, report."""

from typing import Any

from kfp import dsl

from attrloop.components.annotate.component import annotate
from attrloop.components.evaluate.component import evaluate
from attrloop.components.preflight.component import preflight
from attrloop.components.sft.component import sft
from attrloop.pipelines.definitions.cluster import Cluster
from attrloop.pipelines.definitions.iteration import build_iteration, conclude, uncached, unroll
from attrloop.pipelines.definitions.resources import Resources, with_resources


def build(cluster: Cluster, max_iterations: int) -> Any:
    """The pipeline.

    Args:
        cluster: where it will run.
        max_iterations: how many it has room for.
    """
    body = build_iteration(cluster)

    @dsl.pipeline(
        name="attribute-loop",
        description=(
            "Makes a compact vision-language model good at product attributes, from a few labels and many unlabelled "
            "listings."
        ),
    )
    @with_resources(cluster, "sft", "sample", "dpo", "evaluate", secrets=("annotation", "hub", "tracking"))
    def attribute_loop(
        config: str,
        workspace: str,
        overrides: str = "",
        gpu_sample_workers: int = 1,
        *,
        resources: Resources,
    ) -> str:
        """The whole loop.

        Args:
            config: Path or bucket URI of the run config (YAML), or of a workspace's `config.json`.
            workspace: URI of the folder that holds everything the run makes; the same folder again continues or reuses.
            overrides: Settings that replace the config's, JSON by dotted name, e.g. `{"sample.temperature": 0.7}`.
            gpu_sample_workers: Pods that sample chains at once, each with its own accelerator. The result is the same.
            resources: What the steps ask of the cluster.

        Returns:
            Output: The loop's final state (JSON): every stage with its adapter and its macro accuracy on validation.
        """
        checked = preflight(config=config, workspace=workspace, overrides=overrides)
        root = checked.output
        labels = annotate(workspace=root)
        first = sft(workspace=root).after(labels)
        start = evaluate(workspace=root, stage="sft", adapter=first.output)
        state = unroll(
            root, start.outputs["Output"], max_iterations, body, resources, gpu_sample_workers=gpu_sample_workers
        )
        conclude(root, state, resources)
        uncached(checked, labels, first, start)
        resources.cpu(checked, annotator=True, tracking=True, models=True, retried=False)
        resources.cpu(labels, annotator=True)
        resources.gpu("sft", first)
        resources.gpu("evaluate", start)
        return state

    return attribute_loop
