"""KFP contract of evaluation and of the report."""

from kfp import dsl

from attrloop.components.base_images import TRAINER, WORKER


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
    from attrloop.components.evaluate.steps import evaluate_stage

    return evaluate_stage(workspace, stage, adapter, state, metrics, confusion, page.path)


@dsl.component(base_image=TRAINER, install_kfp_package=False)
def evaluate_test(
    workspace: str, state: str, metrics: dsl.Output[dsl.Metrics], confusion: dsl.Output[dsl.ClassificationMetrics]
) -> None:
    """Reads the test split once, for all stages and the champion together, after every choice was made on validation.

    Writes `evaluate/test/<stage>/predictions.parquet` and `metrics.json`.

    Args:
        workspace: URI of the run's workspace.
        state: The loop's final state (JSON).

    Returns:
        metrics: The best stage's accuracy on test, macro and per vertical, in [0, 1], and the rates beside it.
        confusion: Confusion matrix of the best stage's weakest attribute.
    """
    from attrloop.components.evaluate.steps import evaluate_all
    from attrloop.components.promote.challenge import evaluate_champion
    from attrloop.components.run.reporting import reporting

    with reporting(workspace, "evaluate-test"):
        evaluate_all(workspace, state, metrics, confusion)
        evaluate_champion(workspace, state)


@dsl.component(base_image=WORKER, install_kfp_package=False)
def report(workspace: str, state: str, page: dsl.Output[dsl.HTML]) -> None:
    """Writes the run's report, `report.html`, and its summary for scripts, `summary.json`.

    Args:
        workspace: URI of the run's workspace.
        state: The loop's final state (JSON).

    Returns:
        page: The self-contained report.
    """
    from attrloop.components.evaluate.steps import write_report

    write_report(workspace, state, page.path)
