"""Further iterations from an adapter that exists already, on new listings: the loop without its SFT."""

from typing import Any

from kfp import dsl

from attrloop.components.annotate.component import annotate
from attrloop.components.evaluate.component import evaluate
from attrloop.components.fetch_adapter.component import fetch_adapter
from attrloop.components.preflight.component import preflight
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
        name="continue-loop",
        description=(
            "Improves a registered adapter in further iterations on new listings, and promotes the result if it is "
            "better."
        ),
    )
    @with_resources(cluster, "sample", "dpo", "evaluate", secrets=("annotation", "hub", "tracking"))
    def continue_loop(
        config: str,
        workspace: str,
        overrides: str = "",
        adapter: str = "",
        gpu_sample_workers: int = 1,
        *,
        resources: Resources,
    ) -> str:
        """Continues the loop.

        Args:
            config: Path or bucket URI of the run config (YAML), or of a workspace's `config.json`.
            workspace: URI of the folder that holds everything the run makes; the same folder again continues or reuses.
            overrides: Settings that replace the config's, JSON by dotted name, e.g. `{"loop.iterations": 1}`.
            adapter: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, the folder of a finished run or of an adapter in it;
                "" for the champion.
            gpu_sample_workers: Pods that sample chains at once, each with its own accelerator. The result is the same.
            resources: What the steps ask of the cluster.

        Returns:
            Output: The loop's final state (JSON): every stage with its adapter and its macro accuracy on validation.
        """
        checked = preflight(config=config, workspace=workspace, overrides=overrides)
        root = checked.output
        fetched = fetch_adapter(workspace=root, adapter=adapter)
        labels = annotate(workspace=root).after(fetched)  # a missing adapter must be known before labels are paid for
        start = evaluate(workspace=root, stage="start", adapter=fetched.output).after(labels)
        state = unroll(
            root, start.outputs["Output"], max_iterations, body, resources, gpu_sample_workers=gpu_sample_workers
        )
        conclude(root, state, resources)
        uncached(checked, fetched, labels, start)
        resources.cpu(checked, annotator=True, tracking=True, models=True, retried=False)
        resources.cpu(labels, annotator=True)
        resources.cpu(fetched, tracking=True)
        resources.gpu("evaluate", start)
        return state

    return continue_loop
