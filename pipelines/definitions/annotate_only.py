"""Labels without a loop: what the teacher sees in a budgeted sample of a catalogue."""

from typing import Any

from kfp import dsl

from attrloop.components.annotate.component import annotate
from attrloop.components.preflight.component import preflight
from attrloop.pipelines.definitions.cluster import Cluster
from attrloop.pipelines.definitions.iteration import uncached
from attrloop.pipelines.definitions.parameters import overrides, with_parameters
from attrloop.pipelines.definitions.resources import Resources, with_resources


def build(cluster: Cluster) -> Any:
    """The pipeline, for a cluster."""

    @dsl.pipeline(
        name="annotate-only",
        description="Has a large model label a budgeted sample of a catalogue, uniform over verticals.",
    )
    @with_parameters(settings=overrides(preflight, "annotate_", "data_", "loop_seed"))
    @with_resources(cluster, secrets=("annotation", "hub", "tracking"))
    def annotate_only(
        config: str,
        workspace: str,
        *,
        settings: dict[str, Any],
        resources: Resources,
    ) -> str:
        """Labels a catalogue. An override that is "" or negative leaves the value of the config file, which holds every other setting.

        Args:
            config: Path of the run config (YAML), or of a workspace's `config.json`.
            workspace: URI of the folder that holds everything the run makes; the same folder again continues or reuses.

        Returns:
            Output: The workspace's URI; the labels are its `annotate/labels.jsonl`.
        """
        checked = preflight(config=config, workspace=workspace, loop_iterations=0, **settings)
        labelled = annotate(workspace=checked.output)
        uncached(checked, labelled)
        resources.cpu(checked, annotator=True, tracking=True, models=True, retried=False)
        resources.cpu(labelled, annotator=True)
        return checked.output

    return annotate_only
