"""The whole loop as one Kubeflow pipeline: preflight, annotate, SFT, iterations, test, registration, promotion, report."""

from pathlib import Path
from typing import Any

from kfp import compiler, dsl

from attrloop.components.annotate.component import annotate
from attrloop.components.evaluate.component import evaluate, evaluate_test, report
from attrloop.components.preflight.component import preflight
from attrloop.components.promote.component import promote
from attrloop.components.register_adapter.component import register_adapter
from attrloop.components.sft.component import sft
from attrloop.pipelines.iteration import build_iteration, demanding, uncached, unroll

MAX_ITERATIONS = 3


def build(max_iterations: int = MAX_ITERATIONS, retries: int = 0) -> Any:
    """The pipeline.

    Args:
        max_iterations: how many iterations it has room for, 0 to 5 (etcd limits the size of what a cluster accepts); a run may ask for fewer.
        retries: new attempts, a minute or more apart, for every step that computes; for clusters, where pods are pre-empted. On one
            machine a fault would only be repeated.
    """
    body = build_iteration(retries)

    @dsl.pipeline(
        name="attribute-loop",
        description="Makes a compact vision-language model good at product attributes, from a handful of labels and all the unlabelled listings.",
    )
    def attribute_loop(
        config: str,
        workspace: str,
        annotate_max_cost: float = -1.0,
        annotate_model: str = "",
        annotate_train_per_vertical: int = -1,
        data_labels: str = "",
        data_listings: str = "",
        data_schema: str = "",
        gpu_count: str = "1",
        gpu_type: str = "nvidia.com/gpu",
        loop_iterations: int = -1,
        loop_seed: int = -1,
        model_base: str = "",
        model_revision: str = "",
        sample_chains: int = -1,
        sample_max_listings: int = -1,
        tracking_experiment: str = "",
        tracking_uri: str = "",
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
            gpu_count: Accelerators that sampling, training and evaluation get each; the local runner takes what the machine has.
            gpu_type: Kubernetes resource name of the accelerator.
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
        state = unroll(root, start.outputs["Output"], max_iterations, body, gpu_type=gpu_type, gpu_count=gpu_count)
        tested = evaluate_test(workspace=root, state=state)
        registered = register_adapter(workspace=root, state=state).after(tested)
        promoted = promote(workspace=root, state=state).after(registered)
        written = report(workspace=root, state=state).after(promoted)
        uncached(checked, labels, first, start, tested, registered, promoted, written)
        demanding(gpu_type, gpu_count, retries, first, start, tested)
        return state

    return attribute_loop


def compile_to(path: Path, max_iterations: int = MAX_ITERATIONS, retries: int = 0) -> None:
    """Writes the pipeline as the YAML that Kubeflow and the local runner take."""
    path.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(build(max_iterations, retries), str(path))
