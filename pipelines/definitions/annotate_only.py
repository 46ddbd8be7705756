"""Labels without a loop: a large model labels a sample of a catalogue, within a budget."""

from typing import Any

from kfp import dsl

from attrloop.components.annotate.component import annotate
from attrloop.components.preflight.component import preflight
from attrloop.pipelines.definitions.cluster import Cluster
from attrloop.pipelines.definitions.iteration import uncached
from attrloop.pipelines.definitions.resources import Resources, with_resources


def build(cluster: Cluster) -> Any:
    """The pipeline, for a cluster."""

    @dsl.pipeline(
        name="annotate-only",
        description="Has a large model label a sample of a catalogue, uniform over verticals, within a budget.",
    )
    @with_resources(cluster, secrets=("annotation", "hub", "tracking"))
    def annotate_only(config: str, workspace: str, overrides: str = "", *, resources: Resources) -> str:
        """Labels a sample of a catalogue.

        Args:
            config: Path or bucket URI of the run config (YAML), or of a workspace's `config.json`.
            workspace: URI of the folder that holds everything the run makes; the same folder again continues or reuses.
            overrides: Settings that replace the config's, JSON by dotted name, e.g. `{"annotate.max_cost": 5}`.
            resources: What the steps ask of the cluster.

        Returns:
            Output: The workspace's URI; the labels are its `annotate/labels.jsonl`.
        """
        checked = preflight(config=config, workspace=workspace, overrides=overrides, labels_only=True)
        labelled = annotate(workspace=checked.output)
        uncached(checked, labelled)
        resources.cpu(checked, annotator=True, tracking=True, models=True, retried=False)
        resources.cpu(labelled, annotator=True)
        return checked.output

    return annotate_only
