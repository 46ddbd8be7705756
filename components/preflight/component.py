"""KFP contract of preflight: nothing starts before it has passed."""

from kfp import dsl

from attrloop.components.base_images import TRAINER


@dsl.component(base_image=TRAINER, install_kfp_package=False)
def preflight(
    config: str,
    workspace: str,
    annotate_max_cost: float = -1.0,
    annotate_model: str = "",
    annotate_train_per_vertical: int = -1,
    data_labels: str = "",
    data_listings: str = "",
    data_schema: str = "",
    loop_iterations: int = -1,
    loop_seed: int = -1,
    model_base: str = "",
    model_revision: str = "",
    sample_chains: int = -1,
    sample_max_listings: int = -1,
    tracking_experiment: str = "",
    tracking_uri: str = "",
) -> str:
    """Writes the run's config into the workspace and checks everything that can be known before compute is paid for.

    An override that is "" or negative leaves the config file's value.

    Args:
        config: Path of the run config (YAML), or of a workspace's `config.json`.
        workspace: URI of the folder that holds everything the run makes.
        annotate_max_cost: Overrides `annotate.max_cost`, the budget for labels in US dollars.
        annotate_model: Overrides `annotate.model`, the teacher's name at its endpoint.
        annotate_train_per_vertical: Overrides `annotate.train_per_vertical`, listings labelled for SFT in each vertical.
        data_labels: Overrides `data.labels`, path or gs:// URI of labels that exist already.
        data_listings: Overrides `data.listings`, path or gs:// URI of the listings (JSONL or Parquet).
        data_schema: Overrides `data.catalogue_schema`, path or gs:// URI of `schema.yaml`.
        loop_iterations: Overrides `loop.iterations`, the most iterations after SFT.
        loop_seed: Overrides `seed`, which every random choice derives from.
        model_base: Overrides `model.base`, hub id or folder of the vision-language model.
        model_revision: Overrides `model.revision`, the hub commit of the base model.
        sample_chains: Overrides `sample.chains`, chains per listing and attribute.
        sample_max_listings: Overrides `sample.max_listings`, unlabelled listings used in an iteration; 0 for all.
        tracking_experiment: Overrides `tracking.experiment`, the MLflow experiment.
        tracking_uri: Overrides `tracking.uri`, the MLflow tracking server.

    Returns:
        Output: The workspace's URI, which every later component takes.
    """
    from attrloop.components.preflight.prepare import prepare

    return prepare(
        config,
        workspace,
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
