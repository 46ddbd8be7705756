"""Labels without a loop: what the teacher sees in a budgeted sample of a catalogue."""

from typing import Any

from kfp import dsl

from attrloop.components.annotate.component import annotate
from attrloop.components.preflight.component import preflight
from attrloop.pipelines.cluster import Cluster
from attrloop.pipelines.iteration import uncached
from attrloop.pipelines.resources import Resources, with_resources


def build(cluster: Cluster) -> Any:
    """The pipeline, for a cluster."""

    @dsl.pipeline(name="annotate-only", description="Has a large model label a budgeted sample of a catalogue, uniform over verticals.")
    @with_resources(cluster, secrets=("annotation", "hub", "tracking"))
    def annotate_only(
        config: str,
        workspace: str,
        annotate_max_cost: float = -1.0,
        annotate_model: str = "",
        annotate_train_per_vertical: int = -1,
        data_labels: str = "",
        data_listings: str = "",
        data_schema: str = "",
        loop_seed: int = -1,
        *,
        resources: Resources,
    ) -> str:
        """Labels a catalogue. An override that is "" or negative leaves the value of the config file, which holds every other setting.

        Args:
            config: Path of the run config (YAML), or of a workspace's `config.json`.
            workspace: URI of the folder that holds everything the run makes; the same folder again continues or reuses.
            annotate_max_cost: Budget in US dollars; annotation stops before crossing it.
            annotate_model: The teacher's name at its OpenAI-compatible endpoint.
            annotate_train_per_vertical: Listings labelled for SFT in each vertical.
            data_labels: Path of labels that exist already (JSONL).
            data_listings: Path of the listings (JSONL or Parquet).
            data_schema: Path of `schema.yaml`.
            loop_seed: Decides which listings are drawn.

        Returns:
            Output: The workspace's URI; the labels are its `annotate/labels.jsonl`.
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
            loop_iterations=0,
            loop_seed=loop_seed,
        )
        labelled = annotate(workspace=checked.output)
        uncached(checked, labelled)
        resources.cpu(checked, annotator=True, tracking=True, models=True, retried=False)
        resources.cpu(labelled, annotator=True)
        return checked.output

    return annotate_only
