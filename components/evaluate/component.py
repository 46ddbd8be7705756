"""KFP contract of the evaluation of a new stage."""

from kfp import dsl

from attrloop.components.base_images import TRAINER


@dsl.component(base_image=TRAINER, install_kfp_package=False)
def evaluate(
    workspace: str,
    stage: str,
    adapter: str,
    metrics: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    page: dsl.Output[dsl.HTML],
    state: str = "",
) -> str:
    """Evaluates a new stage on the validation split and decides whether the loop goes on.

    Writes `evaluate/validation/<stage>/predictions.parquet` and `metrics.json`, and the report so far.

    Args:
        workspace: URI of the run's workspace.
        stage: Name of the stage, `sft`, `iteration-1`, ...
        adapter: Path of its adapter in the workspace.
        state: The loop's state (JSON) before the stage; "" for the first, which has the base model evaluated as well.

    Returns:
        Output: The loop's state (JSON) with the new stage.
        metrics: Accuracy, macro and per vertical, in [0, 1], and the rates beside it.
        confusion: Confusion matrix of the stage's weakest attribute.
        page: The run's report so far, self-contained.
    """
    from attrloop.components.evaluate.stage import evaluate_stage
    from attrloop.components.report.report import write_page
    from attrloop.components.run.reporting import reporting

    with reporting(workspace, "evaluate", stage=stage):
        after = evaluate_stage(workspace, stage, adapter, state, metrics=metrics, confusion=confusion)
        write_page(workspace, after, page.path)
    return after
